/** What is wrong between resources: names of what does not exist, two rules for one thing, rules that contradict. */
import { canCheck, type HealthCheckModel, type Model } from '@weft/model';
import { checkAuthorization } from './authorization.ts';
import { checkDestination } from './destination.ts';
import { checkDestinationRule } from './destination-rules.ts';
import { RouteCheck } from './gateway-api-routes.ts';
import { GatewayCheck } from './gateways.ts';
import { Known, type Report } from './known.ts';
import { checkOtherPolicies } from './other-policies.ts';
import { checkMeshConfigs, checkMeshDefaults, checkRateLimits, checkSelectors } from './policies.ts';
import { checkAlias, checkEndpointSlices, checkService } from './services.ts';
import { checkOneVirtualServiceAHost, checkVirtualService } from './virtual-services.ts';

/** `broken`: refs of resources that have errors of their own; what refers to those is not checked further. */
export function checkReferences(model: Model, broken: ReadonlySet<string>, report: Report): void {
  const known = new Known(model, broken, report);
  for (const service of model.services) checkService(known, service);
  for (const alias of model.serviceAliases) checkAlias(known, alias);
  new GatewayCheck(model, broken, report).run();
  for (const vs of model.virtualServices) checkVirtualService(known, vs);
  new RouteCheck(model, broken, report, (rule, d, used) => checkDestination(known, rule, d, d.field, used)).run();
  checkOneVirtualServiceAHost(known);
  for (const rule of model.destinationRules) checkDestinationRule(known, rule);
  checkSelectors(known);
  checkAuthorization(model, broken, report);
  checkOtherPolicies(model, broken, report);
  checkMeshDefaults(known);
  checkRateLimits(known);
  for (const c of model.healthChecks) checkHealthCheck(known, c);
  for (const f of model.tcpFaults) if (known.ok(f)) known.serviceOf(f, f.host, 'spec.host');
  checkMeshConfigs(known);
  checkEndpointSlices(known);
}

/** A check that no port of the service can be asked would say nothing for ever. */
function checkHealthCheck(known: Known, c: HealthCheckModel): void {
  if (!known.ok(c)) return;
  const service = known.serviceOf(c, c.host, 'spec.host');
  if (!service || !known.ok(service)) return;
  const ports = service.ports.filter((p) => c.port === 0 || p.port === c.port);
  if (ports.length === 0) known.noPort(c, service, c.port, 'spec.port');
  else if (!ports.some((p) => canCheck(c, p))) {
    const { kind } = c.check;
    const message =
      kind === 'tcp'
        ? 'tcp asks ports that are declared opaque (tcp, tls): name one, or use http or grpc'
        : `${kind} asks ports that may carry requests, not those declared tcp or tls: use tcp`;
    known.report(c, 'WEFT-VALUE', message, `spec.${kind}`);
  }
}
