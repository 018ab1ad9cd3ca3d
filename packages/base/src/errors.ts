/** Errors with a stable code, a message that says what to do, and an optional place in a file. */

export interface Position {
  file: string;
  line: number; // 1-based
  column?: number;
  /** Path of the field, e.g. `spec.http[0].route[1].weight`. */
  field?: string;
}

export class WeftError extends Error {
  readonly code: string;
  readonly position: Position | undefined;

  constructor(code: string, message: string, options: { position?: Position; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = 'WeftError';
    this.code = code;
    this.position = options.position;
  }
}

/** `file:line: field: message`, as compilers print it, so that editors can jump to it. */
export function formatPosition(p: Position | undefined): string {
  if (!p) return '';
  return `${p.file}:${p.line}${p.field ? `: ${p.field}` : ''}`;
}
