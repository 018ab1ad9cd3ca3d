/** Who has no proxy, and whether that is meant (IST0102, 0103, 0123). */
import { injected, type Labels } from '@weft/model';
import type { Lint } from './lint.ts';

export function lintInjection({ model, report }: Lint): void {
  for (const namespace of model.namespaces) {
    const has = (key: string) => Object.hasOwn(namespace.labels, key);
    if (has('istio-injection') && has('istio.io/rev')) {
      const message = 'has the labels istio-injection and istio.io/rev: istio-injection wins; remove the other';
      report(namespace, 'IST0123', message, 'metadata.labels');
    }
    const plain: Labels = {};
    const own = injected(model, { namespace: namespace.name, labels: plain, annotations: plain });
    const inside = model.processes.filter((p) => p.namespace === namespace.name && !p.gateway);
    if (!own.injected && inside.some((p) => !injected(model, p).injected)) {
      report(namespace, 'IST0102', `its processes get no proxy (${own.reason})`, 'metadata.labels');
    }
    if (!own.injected) continue;
    for (const p of inside) {
      const decision = injected(model, p);
      if (!decision.injected) missing({ model, report }, p, decision.reason);
    }
  }
  // A namespace that no document declares is in the mesh.
  const declared = new Set(model.namespaces.map((n) => n.name));
  for (const p of model.processes) {
    if (declared.has(p.namespace) || p.gateway) continue;
    const decision = injected(model, p);
    if (!decision.injected) missing({ model, report }, p, decision.reason);
  }
}

function missing({ report }: Pick<Lint, 'model' | 'report'>, p: Lint['model']['processes'][number], why: string): void {
  const message = `has no proxy, though its namespace is in the mesh (${why}): no policy holds for it, and nobody sees its traffic`;
  report(p, 'IST0103', message, 'metadata');
}
