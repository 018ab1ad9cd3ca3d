/** The cases of the hostile suite: what each peer does is in the Python files, by the same names. */

export interface HostileCase {
  name: string;
  /** Application side of the front proxy, mesh port of the back one with a certificate, or an upstream of the back one. */
  where: 'front' | 'mesh' | 'upstream';
  /** Of the proxy under attack, each with how much it rises; `a|b`: one of the two. */
  counters?: Readonly<Record<string, number>>;
  /** The proxy must end the connection; false: it goes on, and what was wrong is refused on it. */
  ends: boolean;
  short?: boolean;
  /** Connections of it one after the other, in full and in short. */
  count?: readonly [full: number, short: number];
  /** The upstream's answer is not read by who asked. */
  unread?: boolean;
}

/** A counter that rises by no certain number. */
export const SOME = -1;

const one = (name: string): Readonly<Record<string, number>> => ({ [name]: 1 });
const RESETS = one('http2_reset_sent_flood');
const GLITCHES = one('http2_glitch_flood');
/** Which of the two limits is met first depends on how fast the acknowledgements leave. */
const ACKS = one('http2_glitch_flood|http2_control_queue');
const BROKEN = one('http2_connection_error');

type Row = [name: string, counters: Readonly<Record<string, number>> | undefined, more?: Partial<HostileCase>];
const SHORT = { short: true };
const GOES_ON = { ends: false };

const front: Row[] = [
  ['rapid-reset', one('http2_reset_pending_accept'), SHORT],
  ['late-reset', one('http2_reset_received_flood')],
  ['made-by-window-update-0', RESETS, SHORT],
  ['made-by-window-overflow', RESETS],
  ['made-by-short-priority', RESETS],
  ['made-by-own-dependency', RESETS],
  ['made-by-data-after-end', RESETS],
  ['made-by-headers-after-end', RESETS],
  ['made-by-stream-limit', RESETS],
  ['made-by-content-length', RESETS],
  ['empty-name', RESETS],
  ['upper-case-name', RESETS],
  ['line-feed-in-value', RESETS],
  ['continuation-flood', one('http2_continuation_flood'), SHORT],
  ['continuation-empty', one('http2_empty_frame_flood')],
  ['hpack-bomb', one('http2_header_abuse'), SHORT],
  ['cookie-crumbs', one('http2_header_abuse')],
  ['cookie-crumbs-few', RESETS],
  ['hpack-bad-index', BROKEN],
  ['hpack-size-updates', BROKEN],
  ['settings-flood', ACKS, SHORT],
  ['settings-entries', one('http2_settings_entries')],
  ['settings-windows', GLITCHES],
  ['settings-frame-size-0', BROKEN],
  ['settings-window-too-large', BROKEN],
  ['ping-flood', ACKS, SHORT],
  ['empty-data', one('http2_empty_frame_flood')],
  ['padded-empty-data', one('http2_empty_frame_flood')],
  ['priority-idle-streams', one('http2_priority_flood')],
  ['priority-open-stream', one('http2_priority_flood'), SHORT],
  ['window-update-flood', one('http2_window_update_flood'), SHORT],
  ['window-update-stream', one('http2_window_update_flood')],
  ['window-overflow', BROKEN],
  ['unknown-frames', GLITCHES],
  ['oversize-frame', BROKEN],
  ['push-from-client', BROKEN],
  ['headers-on-even-stream', BROKEN],
  ['goaway-flood', GLITCHES],
  ['stalled-answers', { http2_flush_timeout: 100 }, GOES_ON],
  ['stalled-large-answers', { stream_idle_timeout: SOME }, GOES_ON],
  ['unread-answers', one('http2_outbound_queue')],
  ['tiny-data', one('http2_tiny_data_flood'), SHORT],
  ['data-beyond-window', one('http2_flow_control'), GOES_ON],
  ['byte-by-byte', undefined, { ...GOES_ON, ...SHORT }],
  ['odd-names', undefined, { ...GOES_ON, ...SHORT }],
  ['grpc-timeout', undefined, GOES_ON],
  ['abrupt-closes', undefined, { count: [2000, 100], ...SHORT }],
  ['bad-preface', undefined],
  ['http1-endless-field', one('http1_header_bytes')],
  ['http1-endless-fields', one('http1_header_bytes')],
  ['http1-chunk-extensions', one('http1_chunk_extension')],
  ['http1-tiny-chunks', undefined],
  ['http1-bad-pipeline', one('http1_bad_version')],
  ['http1-unread-pipeline', undefined],
];

const mesh: Row[] = [
  ['rapid-reset', one('http2_reset_pending_accept'), SHORT],
  ['late-reset', one('http2_reset_received_flood')],
  ['made-by-window-update-0', RESETS],
  ['made-by-stream-limit', RESETS],
  ['line-feed-in-value', RESETS],
  ['continuation-flood', one('http2_continuation_flood')],
  ['hpack-bomb', one('http2_header_abuse')],
  ['settings-flood', ACKS],
  ['ping-flood', ACKS, SHORT],
  ['priority-idle-streams', one('http2_priority_flood')],
  ['window-update-flood', one('http2_window_update_flood')],
  ['unknown-frames', GLITCHES],
  ['abrupt-closes', undefined, { count: [300, 30] }],
  ['bad-preface', BROKEN],
  ['handshakes', undefined, { count: [600, 30], ...SHORT }],
];

const upstream: Row[] = [
  ['server-settings-flood', ACKS],
  ['server-settings-entries', one('http2_settings_entries')],
  ['server-settings-frame-size-0', BROKEN],
  ['server-settings-push', BROKEN],
  ['server-ping-flood', ACKS, SHORT],
  ['server-priority-flood', one('http2_priority_flood')],
  ['server-window-update-flood', one('http2_window_update_flood')],
  ['server-window-overflow', BROKEN],
  ['server-reset-flood', one('http2_reset_received_flood'), SHORT],
  ['server-goaway-flood', GLITCHES],
  ['server-unknown-frames', GLITCHES],
  ['server-continuation-flood', one('http2_continuation_flood'), SHORT],
  ['server-continuation-empty', one('http2_empty_frame_flood')],
  ['server-hpack-bomb', one('http2_header_abuse')],
  ['server-many-fields', one('http2_header_too_large'), GOES_ON],
  ['server-interim-flood', one('http2_interim_flood'), GOES_ON],
  ['server-empty-data', one('http2_empty_frame_flood')],
  ['server-tiny-data', one('http2_tiny_data_flood')],
  ['server-data-beyond-window', one('http2_flow_control'), { ...GOES_ON, unread: true }],
  ['server-data-before-head', undefined, GOES_ON],
  ['server-oversize-frame', BROKEN],
  ['server-push', BROKEN],
  ['server-unasked-stream', BROKEN],
  ['server-reset-and-goaway', undefined, { count: [300, 20], ...SHORT }],
  ['server-no-more-streams', undefined],
  ['server-cut', undefined, { count: [200, 20] }],
  ['server1-interim-flood', one('http1_interim_flood')],
  ['server1-endless-field', one('http1_header_bytes')],
  ['server1-endless-fields', one('http1_header_bytes')],
  ['server1-chunk-extensions', one('http1_chunk_extension')],
  ['server1-unasked-responses', undefined],
];

const rows = (where: HostileCase['where'], list: Row[]): HostileCase[] =>
  list.map(([name, counters, more]) => ({ name, where, counters, ends: true, ...more }));

export const hostileCases: readonly HostileCase[] = [
  ...rows('front', front),
  ...rows('mesh', mesh),
  ...rows('upstream', upstream),
];
