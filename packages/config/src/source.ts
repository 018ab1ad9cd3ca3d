/** The bytes of a file → text that a parser may see, or why not. */

/** Of one file. Kubernetes takes resources of at most 1.5 MB; files of several get a little more. */
export const MAX_FILE_BYTES = 4 * 1024 * 1024;

export interface SourceFile {
  /** As it is to be shown in messages. */
  readonly path: string;
  readonly text: string;
  /** The file has no text that can be read: an error at that line. `text` is empty then. */
  readonly unreadable?: { readonly line: number; readonly message: string };
}

/** A file of mesh tests (`weft test`): no configuration, though it stands beside it. */
export function isTestFile(path: string): boolean {
  return /\.mesh-test\.ya?ml$/.test(path);
}

/** A file that holds no resources, but what a resource names by its path: certificates and keys. */
export function isAttachment(path: string): boolean {
  return /\.(pem|crt|crl|key)$/.test(path);
}

/** Never throws. `bytes` may be larger than what is allowed; whoever knows a file's size need not read one that is. */
export function sourceFile(path: string, bytes: Uint8Array): SourceFile {
  if (bytes.length > MAX_FILE_BYTES) return tooLarge(path, bytes.length);
  try {
    return { path, text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch {
    return { path, text: '', unreadable: badEncoding(bytes) };
  }
}

export function tooLarge(path: string, bytes: number): SourceFile {
  const message = `the file has ${bytes} bytes, and at most ${MAX_FILE_BYTES} are read: split it`;
  return { path, text: '', unreadable: { line: 1, message } };
}

function badEncoding(bytes: Uint8Array): { line: number; message: string } {
  const [a, b] = bytes;
  if ((a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff)) {
    return { line: 1, message: 'the file is UTF-16: save it as UTF-8' };
  }
  const decoder = new TextDecoder('utf-8', { fatal: true });
  // No character of several bytes holds a line break.
  for (let line = 1, start = 0; ; line++) {
    const end = bytes.indexOf(0x0a, start);
    try {
      decoder.decode(bytes.subarray(start, end < 0 ? bytes.length : end));
    } catch {
      return { line, message: 'this line is not UTF-8: save the file as UTF-8' };
    }
    if (end < 0) return { line, message: 'the file is not UTF-8' };
    start = end + 1;
  }
}
