/** Buffer's own method, which its types leave out; `toString` looks its encoding up each time. */
export function latin1(bytes: Buffer, start: number, end: number): string {
  return (bytes as unknown as { latin1Slice(start: number, end: number): string }).latin1Slice(start, end);
}

/**
 * The same text as the engine's one copy of it, which names in source code are as well: two such strings are compared by
 * their address. For what comes again and again; it costs a look into the engine's table.
 */
export function sharedText(text: string): string {
  for (const key in { [text]: 0 }) return key;
  return text;
}
