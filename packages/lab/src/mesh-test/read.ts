/** `*.mesh-test.yaml` → tests, with every mistake and its place. */
import {
  checkHeaderName,
  checkLabelName,
  nearest,
  type ObjectSchema,
  type Problem,
  readSchema,
  readYaml,
  type Schema,
  type SourceFile,
  type Tree,
} from '@weft/config';
import type { DestinationExpectation, Expectation, HeadExpectation, MeshTest } from './types.ts';

export const TEST_API = 'weft.dev/v1alpha1';
export const TEST_KIND = 'MeshTest';

const nonEmpty: Schema = { t: 'string', check: (v) => (v === '' ? 'it may not be empty' : undefined) };
const bool: Schema = { t: 'bool' };
const percentage: Schema = { t: 'number', min: 0, max: 100 };
const duration: Schema = { t: 'duration' };
const attempts: Schema = { t: 'int', min: 0, max: 1000 };
const headers: Schema = { t: 'map', of: { t: 'string' }, checkKey: checkHeaderName };
const headerNames: Schema = { t: 'list', of: { t: 'string', check: checkHeaderName }, min: 1 };

const destinations: Schema = {
  t: 'list',
  min: 1,
  of: { t: 'object', fields: { service: nonEmpty, subset: { t: 'string' }, workload: nonEmpty, share: percentage } },
};

const rule: Schema = {
  t: 'string',
  check: (v) =>
    RULE.test(v) ? undefined : 'a rule is Kind/name or Kind/namespace/name, perhaps with #field behind it',
};
const RULE = /^([A-Za-z]+)\/(?:([a-z0-9.-]+)\/)?([a-z0-9.-]+)(#.+)?$/;

const EXPECT: ObjectSchema = {
  t: 'object',
  fields: {
    decision: { t: 'string', enum: ['allowed', 'denied', 'answered', 'unreachable'] },
    by: { t: 'either', list: { t: 'list', of: rule, min: 1 }, scalar: rule },
    status: { t: 'int', min: 100, max: 599 },
    to: destinations,
    mirrors: { ...destinations, min: 0 },
    timeout: duration,
    retries: {
      t: 'either',
      scalar: attempts,
      list: attempts,
      map: { t: 'object', fields: { attempts, perTryTimeout: duration, retryOn: { t: 'string' } } },
    },
    fault: {
      t: 'object',
      fields: {
        delay: {
          t: 'object',
          fields: { percentage, fixedDelay: { t: 'duration', minMs: 1 } },
          required: ['percentage', 'fixedDelay'],
        },
        abort: {
          t: 'object',
          fields: {
            percentage,
            httpStatus: { t: 'int', min: 100, max: 599 },
            grpcStatus: { t: 'int', min: 0, max: 16 },
          },
          required: ['percentage'],
          oneOf: [['httpStatus', 'grpcStatus']],
        },
      },
    },
    location: nonEmpty,
    mtls: bool,
    sent: { t: 'object', fields: { path: nonEmpty, host: nonEmpty, headers, without: headerNames } },
    response: { t: 'object', fields: { headers, without: headerNames } },
  },
};

const FILE: ObjectSchema = {
  t: 'object',
  fields: {
    apiVersion: { t: 'string', enum: [TEST_API] },
    kind: { t: 'string', enum: [TEST_KIND] },
    metadata: {
      t: 'object',
      fields: { name: nonEmpty, namespace: { t: 'string', check: checkLabelName } },
      required: ['name'],
    },
    spec: {
      t: 'object',
      fields: {
        tests: {
          t: 'list',
          min: 1,
          of: {
            t: 'object',
            fields: {
              name: nonEmpty,
              request: {
                t: 'object',
                fields: {
                  from: nonEmpty,
                  to: nonEmpty,
                  method: nonEmpty,
                  path: nonEmpty,
                  headers,
                  tcp: bool,
                  sni: nonEmpty,
                  token: {
                    t: 'object',
                    fields: {
                      issuer: nonEmpty,
                      subject: nonEmpty,
                      audiences: { t: 'list', of: nonEmpty, min: 1 },
                      claims: { t: 'map', of: { t: 'json' } },
                    },
                    required: ['issuer'],
                  },
                },
                required: ['from', 'to'],
              },
              expect: EXPECT,
            },
            required: ['name', 'request', 'expect'],
          },
        },
      },
      required: ['tests'],
    },
  },
  required: ['apiVersion', 'kind', 'metadata', 'spec'],
};

// biome-ignore lint/suspicious/noExplicitAny: its shape is the schema's, which TypeScript does not see
type Plain = Record<string, any>;

export interface ReadTests {
  readonly tests: readonly MeshTest[];
  readonly problems: readonly Problem[];
}

/** Reads files of tests. Where there is a problem, no test of that document is given. */
export function readMeshTests(files: readonly SourceFile[]): ReadTests {
  const tests: MeshTest[] = [];
  const problems: Problem[] = [];
  for (const file of files) {
    const report = (code: string, message: string, field: string, line: number): void => {
      problems.push({ severity: 'error', code, message, field, line, file: file.path, resource: '', namespace: '' });
    };
    const { documents, errors } = file.unreadable ? { documents: [], errors: [file.unreadable] } : readYaml(file.text);
    // What comes after the first follows from it.
    for (const e of errors.slice(0, 1)) report('WEFT-YAML', e.message, '', e.line);
    const names = new Map<string, number>();
    for (const tree of documents) {
      const before = problems.length;
      const read = readSchema(FILE, tree, '', report) as Plain | undefined;
      if (!read || problems.length > before) continue;
      const namespace: string = read.metadata.namespace ?? 'default';
      for (const [i, plain] of (read.spec.tests as Plain[]).entries()) {
        const lineOf = (field: string): number => lineAt(tree, `spec.tests[${i}]${field && `.${field}`}`);
        const other = names.get(plain.name);
        if (other !== undefined)
          report(
            'WEFT-DUPLICATE',
            `a test of this name is already at line ${other}`,
            `spec.tests[${i}].name`,
            lineOf('name'),
          );
        names.set(plain.name, lineOf('name'));
        if (Object.keys(plain.expect).length === 0)
          report('WEFT-VALUE', `expects nothing; it may say ${known()}`, `spec.tests[${i}].expect`, lineOf('expect'));
        tests.push(testOf(plain, namespace, file.path, lineOf));
      }
    }
  }
  return { tests, problems };
}

const known = (): string => Object.keys(EXPECT.fields).join(', ');

function testOf(plain: Plain, namespace: string, file: string, lineOf: (field: string) => number): MeshTest {
  const { request, expect } = plain;
  const local = (name: string): string => (name.includes('/') || name === 'outside' ? name : `${namespace}/${name}`);
  const pairs = (map: Record<string, string> | undefined): [string, string][] =>
    Object.entries(map ?? {}).map(([name, value]) => [name.toLowerCase(), value]);
  const head = (h: Plain): HeadExpectation => ({
    ...(h.path !== undefined && { path: h.path }),
    ...(h.host !== undefined && { host: h.host }),
    headers: pairs(h.headers),
    without: ((h.without ?? []) as string[]).map((n) => n.toLowerCase()),
  });
  const to = (list: Plain[], field: string): DestinationExpectation[] =>
    list.map((d, i) => ({
      service: d.service,
      subset: d.subset,
      workload: d.workload,
      share: d.share,
      line: lineOf(`${field}[${i}]`),
    }));
  const { delay, abort } = expect.fault ?? {};
  const expected: Expectation = {
    ...(expect.decision !== undefined && { decision: expect.decision }),
    by: ([expect.by ?? []].flat() as string[]).map((text) => {
      const [, kind, space = namespace, name, field = ''] = RULE.exec(text)!;
      return `${kind}/${space}/${name}${field}`;
    }),
    ...(expect.status !== undefined && { status: expect.status }),
    ...(expect.to && { to: to(expect.to, 'expect.to') }),
    ...(expect.mirrors && { mirrors: to(expect.mirrors, 'expect.mirrors') }),
    ...(expect.timeout !== undefined && { timeoutMs: expect.timeout }),
    ...(expect.retries !== undefined && { retries: retriesOf(expect.retries) }),
    ...(delay && { delay: { percentage: delay.percentage, delayMs: delay.fixedDelay } }),
    ...(abort && { abort }),
    ...(expect.location !== undefined && { location: expect.location }),
    ...(expect.mtls !== undefined && { mtls: expect.mtls }),
    ...(expect.sent && { sent: head(expect.sent) }),
    ...(expect.response && { response: head(expect.response) }),
  };
  return {
    name: plain.name,
    file,
    line: lineOf('name'),
    question: {
      from: local(request.from),
      // From outside a workload is called, else whatever the client would say.
      to: request.from === 'outside' ? local(request.to) : request.to,
      method: request.method ?? 'GET',
      path: request.path ?? '/',
      headers: Object.entries((request.headers ?? {}) as Record<string, string>),
      ...(request.token && { token: request.token }),
      ...(request.tcp && { tcp: true }),
      ...(request.sni !== undefined && { sni: request.sni }),
    },
    expect: expected,
    lineOf,
  };
}

function retriesOf(written: number | Plain): Expectation['retries'] {
  if (typeof written === 'number') return { attempts: written };
  const { attempts, perTryTimeout, retryOn } = written;
  return {
    ...(attempts !== undefined && { attempts }),
    ...(perTryTimeout !== undefined && { perTryTimeoutMs: perTryTimeout }),
    ...(retryOn !== undefined && { retryOn }),
  };
}

/** The line of a field, or of the nearest one above it that is written. */
function lineAt(tree: Tree, field: string): number {
  let at: Tree = tree;
  let line = tree.line;
  for (const part of field.split(/[.[\]]+/).filter(Boolean)) {
    if (at.kind === 'list') {
      const item: Tree | undefined = at.items[Number(part)];
      if (!item) return line;
      at = item;
      line = item.line;
    } else if (at.kind === 'map') {
      const entry = at.entries.get(part);
      if (!entry) return line;
      at = entry.value;
      line = entry.line;
    } else return line;
  }
  return line;
}

/** What is near to a name that is not there, as a hint; '' for nothing. */
export function hint(word: string, names: readonly string[]): string {
  const near = nearest(word, names);
  return near.length > 0 ? `; did you mean ${near.join(', ')}?` : '';
}
