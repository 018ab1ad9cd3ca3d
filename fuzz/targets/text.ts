/** Values of fields and parts of requests that are read as text, and the plan that a control plane sends. */
import { silentLogger, WeftError } from '@weft/base';
import { canonicalAuthority, canonicalHead, canonicalPath, formatAuthority } from '@weft/engine';
import { PART_TYPE } from '@weft/plan';
import { formatTraceparent, parseB3Single, parseTraceparent, readTraceContext } from '@weft/telemetry';
import { decodeSource } from '../../packages/proxy/src/link/source.ts';
import { PlanStore } from '../../packages/proxy/src/plan-store.ts';
import { type Target, whole } from '../target.ts';

const traceparent = whole('traceparent', (bytes) => {
  const text = bytes.toString('latin1');
  const context = parseTraceparent(text);
  readTraceContext(['traceparent', text, 'tracestate', text, 'b3', text, 'x-b3-traceid', text, 'x-b3-spanid', text]);
  parseB3Single(text);
  if (context === undefined) return 'refused';
  const again = formatTraceparent(context);
  if (formatTraceparent(parseTraceparent(again)!) !== again) throw new Error('our own traceparent is read otherwise');
  return again;
});

/** The mesh header by which a client's proxy tells of itself. */
const source = whole('source-header', (bytes) => {
  const peer = decodeSource(bytes.toString('latin1'), 'spiffe://cluster.local/ns/a/sa/b');
  for (const [key, value] of Object.entries(peer)) {
    if (value.length > 253) throw new Error(`${key} has ${value.length} characters`);
  }
  if (peer.principal !== 'spiffe://cluster.local/ns/a/sa/b' || peer.namespace !== 'a')
    throw new Error('what the certificate says was replaced');
  return JSON.stringify(peer);
});

/** What was made canonical is canonical: a second look cannot mean something else. */
const path = whole('path', (bytes) => {
  const text = bytes.toString('latin1');
  let all = '';
  for (const mode of ['reject', 'keep'] as const) {
    const once = canonicalPath(text, mode);
    if (typeof once === 'string') {
      const twice = canonicalPath(once, mode);
      if (twice !== once) throw new Error(`${mode}: ${JSON.stringify(once)} becomes ${JSON.stringify(twice)}`);
    }
    all += `${JSON.stringify(once)} `;
  }
  canonicalHead([':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', text, 'x', text], 'keep');
  return all;
});

const authority = whole('authority', (bytes) => {
  const once = canonicalAuthority(bytes.toString('latin1'));
  if (once === undefined) return 'refused';
  const text = formatAuthority(once);
  const twice = canonicalAuthority(text);
  if (twice === undefined || formatAuthority(twice) !== text) throw new Error(`${text} is not read as itself`);
  return text;
});

/** A part of a plan that is damaged is refused and changes nothing. */
const plan = whole('plan', (bytes) => {
  const store = new PlanStore({ dir: undefined, logger: silentLogger, onApplied() {} });
  store.update(PART_TYPE, { updated: [], removed: [], label: '1' });
  const { snapshot } = store;
  try {
    store.update(PART_TYPE, { updated: [{ name: 'a', version: '1', bytes }], removed: [], label: '2' });
    return 'applied';
  } catch (error) {
    if (!(error instanceof Error)) throw new Error('something that is no Error was thrown');
    if (store.snapshot !== snapshot || store.epoch !== 1n) throw new Error('a refused part changed the plan');
    return error instanceof WeftError ? error.code : 'refused';
  }
});

export const textTargets: readonly Target[] = [traceparent, source, path, authority, plan];
