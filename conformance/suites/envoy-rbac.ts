/** The same random policies given to a real Envoy as RBAC: both have to decide alike about the same HTTP requests. */
import { Agent, request } from 'node:http';
import { create } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { authorize, buildSnapshot, canonicalHead } from '@weft/engine';
import { AuthorizationAction, PartSchema } from '@weft/plan';
import { at, envoyProgram, hcmType, startEnvoy, type } from '../envoy.ts';
import { Draw } from '../random-policies.ts';
import { type Suite, Tally } from '../suite.ts';

const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const ADDRESS = '127.7.64.1';
const PORT = 18_400;
const SETS = { short: 40, full: 200 };
const REQUESTS = 10;
const SEED = 4711;

type Json = Record<string, unknown>;
interface Rule {
  to: { paths: string[]; notPaths: string[]; methods: string[]; notMethods: string[] }[];
  when: { key: string; values: string[]; notValues: string[] }[];
}
interface Policy {
  action: 'ALLOW' | 'DENY';
  rules: Rule[];
}

const PATHS = ['/x', '/x/y', '/x*', '/x/*', '*/y', '*'];
const METHODS = ['GET', 'POST', 'P*', '*'];
const ROLES = ['admin', 'user', 'u*', '*n', '*'];

function policies(draw: Draw): Policy[] {
  const maybe = (from: readonly string[]): string[] => (draw.below(2) ? draw.some(from) : []);
  const both = (from: readonly string[]): [string[], string[]] => {
    const yes = maybe(from);
    const no = maybe(from);
    return yes.length + no.length > 0 ? [yes, no] : [[from[0]], []];
  };
  return draw.times(1 + draw.below(3), () => ({
    action: draw.one(['ALLOW', 'ALLOW', 'DENY'] as const),
    rules: draw.times(1 + draw.below(3), () => ({
      to: draw.times(draw.below(3), () => {
        const [paths, notPaths] = both(PATHS);
        const [methods, notMethods] = draw.below(2) ? both(METHODS) : [[], []];
        return { paths, notPaths, methods, notMethods };
      }),
      when: draw.times(draw.below(2), () => {
        const [values, notValues] = both(ROLES);
        return { key: 'request.headers[x-role]', values, notValues };
      }),
    })),
  }));
}

function matcher(pattern: string): Json {
  if (pattern.endsWith('*')) return { prefix: pattern.slice(0, -1) };
  return pattern.startsWith('*') ? { suffix: pattern.slice(1) } : { exact: pattern };
}

const header = (name: string, pattern: string): Json => ({
  header: pattern === '*' ? { name, present_match: true } : { name, string_match: matcher(pattern) },
});
const urlPath = (pattern: string): Json => (pattern === '*' ? { any: true } : { url_path: { path: matcher(pattern) } });
const or = (rules: Json[]): Json => ({ or_rules: { rules } });
const and = (rules: Json[]): Json => (rules.length === 0 ? { any: true } : { and_rules: { rules } });

function lists(yes: string[], no: string[], one: (pattern: string) => Json): Json[] {
  return [...(yes.length > 0 ? [or(yes.map(one))] : []), ...(no.length > 0 ? [{ not_rule: or(no.map(one)) }] : [])];
}

function permission(rule: Rule): Json {
  const to = rule.to.map((o) =>
    and([...lists(o.paths, o.notPaths, urlPath), ...lists(o.methods, o.notMethods, (p) => header(':method', p))]),
  );
  const when = rule.when.flatMap((c) => lists(c.values, c.notValues, (p) => header('x-role', p)));
  return and([...(to.length > 0 ? [or(to)] : []), ...when]);
}

const RBAC = type('extensions.filters.http.rbac.v3.RBAC');
const PER_ROUTE = type('extensions.filters.http.rbac.v3.RBACPerRoute');

function virtualHost(set: readonly Policy[], n: number): Json {
  const config: Json = {};
  for (const action of ['DENY', 'ALLOW'] as const) {
    const own = set.filter((p) => p.action === action);
    if (own.length === 0) continue;
    const all: Json = {};
    for (const [i, rule] of own.flatMap((p) => p.rules).entries()) {
      all[`r${i}`] = { permissions: [permission(rule)], principals: [{ any: true }] };
    }
    config[action.toLowerCase()] = { '@type': PER_ROUTE, rbac: { rules: { action, policies: all } } };
  }
  return {
    name: `s${n}`,
    domains: [`s${n}.test`],
    routes: [{ match: { prefix: '/' }, direct_response: { status: 200 } }],
    typed_per_filter_config: config,
  };
}

function bootstrap(sets: readonly Policy[][]): Json {
  const router = { '@type': type('extensions.filters.http.router.v3.Router') };
  const manager = {
    '@type': hcmType,
    stat_prefix: 'in',
    route_config: { name: 'r', virtual_hosts: sets.map(virtualHost) },
    http_filters: [
      { name: 'deny', typed_config: { '@type': RBAC } },
      { name: 'allow', typed_config: { '@type': RBAC } },
      { name: 'envoy.filters.http.router', typed_config: router },
    ],
  };
  const filters = [{ name: 'hcm', typed_config: manager }];
  const listeners = [{ name: 'in', address: at(ADDRESS, PORT), filter_chains: [{ filters }] }];
  return { static_resources: { listeners } };
}

export const suite: Suite = {
  name: 'envoy-rbac',
  about: "random policies against Envoy's RBAC filter",
  inShortForm: false,
  async install() {
    envoyProgram();
  },
  async run(ctx) {
    const tally = new Tally();
    const draw = new Draw(seededRandom(SEED));
    const sets = Array.from({ length: ctx.short ? SETS.short : SETS.full }, () => policies(draw));
    ctx.cleanup(() => agent.destroy());
    await startEnvoy(ctx, bootstrap(sets), { address: ADDRESS, port: PORT + 1 });
    let denied = 0;
    for (const [n, set] of sets.entries()) {
      const named = set.map((p, i) => ({ ...p, name: `p${i}`, namespace: 'n', action: AuthorizationAction[p.action] }));
      const value = { policies: named };
      const snapshot = buildSnapshot([create(PartSchema, { kind: { case: 'authorization', value } })], []);
      for (let i = 0; i < REQUESTS; i++) {
        const method = draw.one(['GET', 'POST', 'PUT', 'DELETE']);
        const path = draw.one(['/x', '/x/y', '/xy', '/', '/x/', '/q/y']) + draw.one(['', '?a=/y']);
        const role = draw.one([undefined, 'admin', 'user', 'n']);
        const more = role === undefined ? [] : ['x-role', role];
        const head = [':method', method, ':scheme', 'http', ':authority', `s${n}.test`, ':path', path, ...more];
        await tally.check(`set ${n} ${method} ${path} ${role}`, async () => {
          if (canonicalHead(head, 'reject')) throw new Error('not canonical');
          const asked = { remoteIp: ADDRESS, localIp: ADDRESS, destPort: PORT, head };
          const ours = authorize(snapshot, asked).allow;
          const status = await ask(`s${n}.test`, method, path, role);
          if (status !== 200 && status !== 403) throw new Error(`Envoy answered ${status}`);
          if (!ours) denied++;
          if (ours !== (status === 200)) throw new Error(`Weft ${ours}, Envoy ${status}: ${JSON.stringify(set)}`);
        });
      }
    }
    await tally.check('both answers are frequent', () => {
      const all = sets.length * REQUESTS;
      if (denied < all / 10 || denied > (all * 9) / 10) throw new Error(`${denied} of ${all} denied`);
    });
    ctx.log(`seed ${SEED}: ${sets.length * REQUESTS} requests, ${denied} denied`);
    return tally;
  },
};

function ask(host: string, method: string, path: string, role: string | undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { host, ...(role !== undefined && { 'x-role': role }) };
    const sent = request({ host: ADDRESS, port: PORT, method, path, headers, agent }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
    });
    sent.on('error', reject);
    sent.end();
  });
}
