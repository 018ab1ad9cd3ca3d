/** The annotations that say which traffic of a workload its proxy takes: Istio's, and Linkerd's for the same. */
import { type CaptureScope, captureAll, type Labels, type PortRange } from '@weft/model';
import { checkIpBlock, type FieldReport } from './common.ts';

const VALUE = 'WEFT-VALUE';
const ISTIO = 'traffic.sidecar.istio.io/';
const LINKERD = 'config.linkerd.io/';

/** Of Istio's annotations under this prefix that are real but do nothing here: they concern other kinds of capture. */
const OTHER = new Set(['kubevirtInterfaces', 'excludeOutboundIPRangesV6']);

/** `80,443` and, as Linkerd writes them, `4000-5000`. */
function portsOf(text: string, field: string, report: FieldReport): PortRange[] {
  const out: PortRange[] = [];
  for (const part of text.split(',').map((p) => p.trim())) {
    if (part === '') continue;
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part);
    const first = Number(match?.[1]);
    const last = Number(match?.[2] ?? match?.[1]);
    if (!match || first < 1 || last > 65535 || first > last) {
      report(VALUE, `holds "${part.slice(0, 40)}", which is no port and no range of ports`, field);
    } else out.push({ first, last });
  }
  return out;
}

function blocksOf(text: string, field: string, report: FieldReport): string[] {
  const out: string[] = [];
  for (const part of text.split(',').map((p) => p.trim())) {
    if (part === '') continue;
    const wrong = checkIpBlock(part);
    if (wrong) report(VALUE, `holds "${part.slice(0, 40)}": ${wrong}`, field);
    else out.push(part);
  }
  return out;
}

/** What the annotations of a workload say; `captureAll` where they say nothing. */
export function captureScope(annotations: Labels, report: FieldReport): CaptureScope {
  const scope: { -readonly [K in keyof CaptureScope]: CaptureScope[K] } = { ...captureAll };
  let any = false;
  for (const [key, text] of Object.entries(annotations)) {
    const field = `metadata.annotations.${key}`;
    const name = key.startsWith(ISTIO) ? key.slice(ISTIO.length) : key.startsWith(LINKERD) ? key : undefined;
    if (name === undefined) continue;
    const all = text.trim() === '*';
    switch (name) {
      case 'includeOutboundIPRanges':
        scope.includeOutboundRanges = all ? undefined : blocksOf(text, field, report);
        break;
      case 'excludeOutboundIPRanges':
        scope.excludeOutboundRanges = blocksOf(text, field, report);
        break;
      case 'includeOutboundPorts':
        scope.includeOutboundPorts = all ? [{ first: 1, last: 65535 }] : portsOf(text, field, report);
        break;
      case 'excludeOutboundPorts':
      case `${LINKERD}skip-outbound-ports`:
        scope.excludeOutboundPorts = [...scope.excludeOutboundPorts, ...portsOf(text, field, report)];
        break;
      case 'includeInboundPorts':
        scope.includeInboundPorts = all ? undefined : portsOf(text, field, report);
        break;
      case 'excludeInboundPorts':
      case `${LINKERD}skip-inbound-ports`:
        scope.excludeInboundPorts = [...scope.excludeInboundPorts, ...portsOf(text, field, report)];
        break;
      case 'excludeInterfaces':
        scope.excludeInterfaces = text
          .split(',')
          .map((p) => p.trim())
          .filter((p) => {
            if (p === '' || /^[A-Za-z0-9_.-]{1,15}$/.test(p)) return p !== '';
            report(VALUE, `holds "${p.slice(0, 40)}", which is no name of an interface`, field);
            return false;
          });
        break;
      default:
        if (key.startsWith(ISTIO)) {
          const what = OTHER.has(name) ? 'is not supported' : 'is no annotation that is known';
          report('WEFT-UNSUPPORTED', `${what}: it has no effect`, field, 'warning');
        }
        continue;
    }
    any = true;
  }
  return any ? scope : captureAll;
}

/** Linkerd's list of ports whose bytes are not looked into, of a workload or a Service. */
export function opaquePorts(annotations: Labels, report: FieldReport): readonly PortRange[] {
  const key = `${LINKERD}opaque-ports`;
  const text = Object.hasOwn(annotations, key) ? annotations[key] : undefined;
  return text === undefined ? [] : portsOf(text, `metadata.annotations.${key}`, report);
}
