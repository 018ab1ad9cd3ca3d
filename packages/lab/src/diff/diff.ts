/** What a change of the configuration changes: in the decisions of proxies, and for requests. */
import { WeftError } from '@weft/base';
import { explain } from '../explain.ts';
import type { LabMesh } from '../mesh.ts';
import type { Explanation, Question, RuleReference } from '../types.ts';
import { type AnswerChange, compareAnswers, decidedBy } from './answers.ts';
import { diffPlans, type PlanDiff } from './plans.ts';
import { MAX_QUESTIONS, questionsOf } from './requests.ts';

export interface RequestChange {
  readonly question: Question;
  /** Of the mesh test that asks it; '': the rules suggest it. */
  readonly test: string;
  readonly changes: readonly AnswerChange[];
  readonly decidedBy: { readonly before: readonly RuleReference[]; readonly after: readonly RuleReference[] };
}

export interface RequestDiff {
  readonly asked: number;
  /** Beyond MAX_QUESTIONS. */
  readonly leftOut: number;
  readonly changes: readonly RequestChange[];
  /** Questions that one of the meshes cannot be asked, with why. */
  readonly unanswered: readonly { readonly question: Question; readonly because: string }[];
}

export interface MeshDiff extends PlanDiff {
  readonly same: boolean;
  /** Undefined: requests were not compared. */
  readonly requests: RequestDiff | undefined;
}

export interface DiffOptions {
  /** Of workloads of this namespace, and of suggested requests that they send or get, alone. */
  readonly namespace?: string | undefined;
  /** Hosts whose endpoints are not compared. */
  readonly unknown?: ReadonlySet<string>;
  /** Compare requests too: those given, or where there are none those that the rules suggest. */
  readonly requests?: readonly Asked[] | undefined;
  /** At most so many are asked; default MAX_QUESTIONS. */
  readonly maxRequests?: number;
}

/** `name`: of the mesh test; '' where the rules suggest the question. */
export interface Asked {
  readonly name: string;
  readonly question: Question;
}

export function diffMeshes(before: LabMesh, after: LabMesh, options: DiffOptions = {}): MeshDiff {
  const plans = diffPlans(before, after, options.unknown);
  const { namespace } = options;
  const here = (workload: string): boolean => namespace === undefined || workload.startsWith(`${namespace}/`);
  const changes = plans.changes
    .map((c) => ({ ...c, workloads: c.workloads.filter(here) }))
    .filter((c) => c.workloads.length > 0);
  const added = plans.added.filter(here);
  const removed = plans.removed.filter(here);
  const given = options.requests;
  const suggested = (): Asked[] =>
    questionsOf(before, after, plans)
      .filter((q) => here(q.from) || here(q.to) || namesService(q.to, here))
      .map((question) => ({ name: '', question }));
  const requests =
    given && diffRequests(before, after, given.length > 0 ? given : suggested(), options.maxRequests ?? MAX_QUESTIONS);
  const same = changes.length + added.length + removed.length + (requests?.changes.length ?? 0) === 0;
  return { changes, added, removed, touched: plans.touched, same, requests };
}

function diffRequests(before: LabMesh, after: LabMesh, wanted: readonly Asked[], most: number): RequestDiff {
  const changes: RequestChange[] = [];
  const unanswered: { question: Question; because: string }[] = [];
  for (const { name, question } of wanted.slice(0, most)) {
    let was: Explanation;
    let is: Explanation;
    try {
      was = explain(before, question);
      is = explain(after, question);
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      unanswered.push({ question, because: error.message });
      continue;
    }
    const found = compareAnswers(was, is, { before, after });
    if (found.length === 0) continue;
    const by = { before: decidedBy(was), after: decidedBy(is) };
    changes.push({ question, test: name, changes: found, decidedBy: by });
  }
  const asked = Math.min(wanted.length, most);
  return { asked, leftOut: wanted.length - asked, changes, unanswered };
}

/** `payment.shop.svc.cluster.local:8080` is of namespace shop. */
function namesService(to: string, here: (workload: string) => boolean): boolean {
  const namespace = to.split('.')[1];
  return namespace !== undefined && here(`${namespace.replace(/:.*$/, '')}/`);
}
