/** `weft.dev/v1alpha1 TCPFault`: connections to a service's opaque ports that are late, slow, broken or never answered. */
import type { TcpFaultModel } from '@weft/model';
import type { ObjectSchema } from '../schema.ts';
import { checkHost, type Kind, percent, port } from './common.ts';

const share: ObjectSchema = { t: 'object', fields: { percentage: percent }, required: ['percentage'] };

export const tcpFaultKind: Kind<TcpFaultModel> = {
  kind: 'TCPFault',
  apiVersions: ['weft.dev/v1alpha1'],
  spec: {
    t: 'object',
    fields: {
      host: { t: 'string', check: checkHost },
      port,
      latency: {
        t: 'object',
        fields: { percentage: percent, fixedDelay: { t: 'duration', minMs: 1 } },
        required: ['percentage', 'fixedDelay'],
      },
      reset: share,
      blackhole: share,
      bandwidth: {
        t: 'object',
        fields: { percentage: percent, bytesPerSecond: { t: 'int', min: 1, max: 4_294_967_295 } },
        required: ['percentage', 'bytesPerSecond'],
      },
    },
    required: ['host'],
  },
  specRequired: true,
  build(resource, spec, report) {
    if (!spec.latency && !spec.reset && !spec.blackhole && !spec.bandwidth)
      report('WEFT-VALUE', 'does nothing: set latency, reset, blackhole or bandwidth', 'spec');
    return {
      ...resource,
      host: spec.host ?? '',
      port: spec.port ?? 0,
      delayPercent: spec.latency?.percentage ?? 0,
      delayMs: spec.latency?.fixedDelay ?? 0,
      resetPercent: spec.reset?.percentage ?? 0,
      blackholePercent: spec.blackhole?.percentage ?? 0,
      bandwidthPercent: spec.bandwidth?.percentage ?? 0,
      bandwidthBytesPerSecond: spec.bandwidth?.bytesPerSecond ?? 0,
    };
  },
};
