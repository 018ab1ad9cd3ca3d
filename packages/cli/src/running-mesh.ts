/** The mesh that runs, for questions without traffic. */
import { type LabMesh, type LiveInstance, meshFromPlans, meshOverInstances, type PlanJson } from '@weft/lab';
import type { Instance, Model } from '@weft/model';
import { askControl } from './common.ts';

export interface RunningMesh {
  /** By the plans that its proxies have. */
  readonly live: LabMesh;
  /** The same instances, had it these files. */
  over(model: Model): LabMesh;
}

export async function runningMeshOf(name: string): Promise<RunningMesh> {
  const { instances } = await askControl<{ instances: (Instance & LiveInstance)[] }>(name, 'GET', '/v1/instances');
  const { vips } = await askControl<{ vips: Record<string, string[]> }>(name, 'GET', '/v1/vips');
  const plans = new Map<string, PlanJson>();
  for (const { name: instance } of instances)
    plans.set(instance, await askControl<PlanJson>(name, 'GET', `/v1/plan/${encodeURIComponent(instance)}`));
  const live = meshFromPlans(plans, instances);
  return { live, over: (model) => meshOverInstances(model, instances, new Map(Object.entries(vips)), live) };
}
