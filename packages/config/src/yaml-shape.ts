/**
 * What a text costs to parse, judged by its tokens alone, which takes a tenth of the time: the parser has no bounds of its
 * own, and some texts of a few bytes a node cost it seconds for each megabyte.
 */
import { Lexer } from 'yaml';
import { MAX_FILE_BYTES } from './source.ts';

export const MAX_DEPTH = 100;
/** Space, scalars and signs; a line of a manifest has about six. */
const MAX_TOKENS = 2_000_000;
/** Anchors and tags together. Manifests have few of the one and none of the other. */
const MAX_MARKS = 1000;
const MAX_DOCUMENTS = 20_000;

/** What the lexer says before each scalar. */
const SCALAR = '\u001f';
const DOCUMENT = '\u0002';

export interface ShapeError {
  readonly line: number;
  readonly message: string;
}

export function depthMessage(): string {
  return `nested deeper than ${MAX_DEPTH} levels`;
}

/** The first limit that the text is beyond; undefined: a parser may see it. */
export function shapeError(text: string): ShapeError | undefined {
  // A character is at least one byte: no need to encode just to measure.
  if (text.length > MAX_FILE_BYTES)
    return { line: 1, message: `at most ${MAX_FILE_BYTES} bytes are read: split the file` };
  const control = CONTROL.exec(text);
  if (control) {
    const code = control[0].charCodeAt(0).toString(16).padStart(4, '0');
    return { line: lineAt(text, control.index), message: `the control character U+${code} may not stand in YAML` };
  }
  let line = 1;
  let tokens = 0;
  let marks = 0;
  let documents = 0;
  let flow = 0;
  // "- - - a" and "? ? a" nest within a line.
  let inline = 0;
  let scalar = false;
  for (const token of new Lexer().lex(text)) {
    if (++tokens > MAX_TOKENS) return { line, message: `more than ${MAX_TOKENS} tokens: split the file` };
    if (scalar) {
      scalar = false;
      line += breaks(token);
      continue;
    }
    switch (token) {
      case SCALAR:
        scalar = true;
        break;
      case DOCUMENT:
        break;
      case '---':
        if (++documents > MAX_DOCUMENTS)
          return { line, message: `more than ${MAX_DOCUMENTS} documents: split the file` };
        break;
      case '[':
      case '{':
        if (++flow > MAX_DEPTH) return { line, message: depthMessage() };
        break;
      case ']':
      case '}':
        if (flow > 0) flow--;
        break;
      case '-':
      case '?':
      case ':':
        if (++inline > MAX_DEPTH && flow === 0) return { line, message: depthMessage() };
        break;
      default:
        if (token[0] === '&' || token[0] === '!') {
          if (++marks > MAX_MARKS) return { line, message: `more than ${MAX_MARKS} anchors and tags` };
        } else {
          const more = breaks(token);
          line += more;
          if (more > 0) inline = 0;
        }
    }
  }
  return undefined;
}

const CONTROL = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/;

function lineAt(text: string, index: number): number {
  return 1 + breaks(text.slice(0, index));
}

function breaks(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) count++;
  return count;
}
