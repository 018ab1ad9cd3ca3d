import type { Family, Registry } from './registry.ts';

/** The Prometheus text exposition format 0.0.4. */
export const prometheusContentType = 'text/plain; version=0.0.4; charset=utf-8';

const chunkChars = 32 * 1024;

/**
 * Yields the whole scrape in pieces of about 32 K characters, each made in well under a millisecond, so that a server can
 * let traffic through between them. Values are read as the pieces are made: one histogram is always consistent in
 * itself, two families may be some requests apart. Series that appear during the scrape may be missing from it.
 */
export function* encodePrometheus(registry: Registry): Generator<string, void, void> {
  let out = '';
  for (const family of [...registry.families]) {
    if (!family.read && family.series.length === 0) continue;
    out += `# HELP ${family.name} ${family.help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n')}\n# TYPE ${family.name} ${family.type}\n`;
    if (family.read) {
      out += `${family.name} ${number(family.read())}\n`;
      continue;
    }
    const bounds = family.buckets.map((b) => `le="${number(b)}"} `);
    // The list only ever grows; its length is read once so that a busy proxy cannot keep a scrape from ending.
    const count = family.series.length;
    for (let i = 0; i < count; i++) {
      const { labels, slot } = family.series[i];
      if (family.type === 'histogram') out += histogram(family, labels, slot, bounds, registry.values);
      else out += `${family.name}${labels} ${number(registry.values[slot])}\n`;
      if (out.length >= chunkChars) {
        yield out;
        out = '';
      }
    }
  }
  if (out !== '') yield out;
}

function histogram(family: Family, labels: string, slot: number, bounds: string[], values: Float64Array): string {
  const open = labels === '' ? `${family.name}_bucket{` : `${family.name}_bucket${labels.slice(0, -1)},`;
  let out = '';
  let seen = 0;
  for (let i = 0; i < bounds.length; i++) {
    seen += values[slot + i];
    out += open + bounds[i] + seen + '\n';
  }
  seen += values[slot + bounds.length];
  out += `${open}le="+Inf"} ${seen}\n`;
  out += `${family.name}_sum${labels} ${number(values[slot + bounds.length + 1])}\n`;
  out += `${family.name}_count${labels} ${seen}\n`;
  return out;
}

function number(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}
