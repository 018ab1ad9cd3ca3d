/**
 * What a request has to pass besides the policies themselves: its token, and external authorizers that a policy has asked.
 * Made for requests that need it, and told by the exchange what comes of the request meanwhile.
 */
import type { AuthorizationResult, HeaderOps, Snapshot, VerifiedToken } from '@weft/engine';
import type { ExternalAuthorizer } from '@weft/plan';
import type { Head, Stream } from '@weft/wire';
import { type Checked, checkWith } from '../authorize/check.ts';
import { applyAllowed, type CheckOutcome } from '../authorize/outcome.ts';
import type { Core } from '../core.ts';
import { noteAuthorization } from '../observe/authorization-notes.ts';
import type { SideCall } from '../outbound/side-call.ts';
import { field, type RequestFacts, removeField } from './headers.ts';
import type { RequestBody } from './request-body.ts';

/** What an external authorizer is told of the request, but its body. */
export type CheckedFacts = Omit<Checked, 'body' | 'bodyAsked' | 'partial' | 'size'>;

/** The exchange, as far as this needs it. */
export interface Vetted {
  readonly core: Core;
  readonly snapshot: Snapshot;
  readonly head: Head;
  readonly down: Stream;
  readonly facts: RequestFacts;
  readonly done: boolean;
  details: string;
  /** All of what came of it is kept while this runs. */
  readonly body: RequestBody;
  addFlag(flag: string): void;
  reply(status: number, body: string, extra?: Head): void;
  answer(status: number, bytes: Buffer, extra: Head): void;
}

const NO_BODY = new Uint8Array(0);

export class Vetting {
  /** External authorizers that let the request pass. */
  readonly approved: string[] = [];
  /** What they add to the response, whatever the route says of it. */
  readonly responseOps: HeaderOps[] = [];
  /** So much of the body is held for an authorizer, though it is more than a retry would need. */
  bodyWanted = 0;
  #of: Vetted;
  /** Names that only we set in the head of this request (claims of tokens, what authorizers say). */
  #guarded = new Set<string>();
  #check: SideCall | undefined;
  #bodyEnough = 0;
  #bodyThere: (() => void) | undefined;

  constructor(of: Vetted) {
    this.#of = of;
  }

  /** Says, at once or later, what the request's token says; or answers 401. */
  verifyToken(
    rules: ReturnType<Core['tokens']['rulesAt']>,
    verified: (token: VerifiedToken | undefined) => void,
  ): void {
    for (const rule of rules) {
      if (rule.payloadHeader !== '') this.#guard(rule.payloadHeader);
      for (const { header } of rule.claimHeaders) this.#guard(header);
    }
    const of = this.#of;
    of.core.tokens.check(rules, of.head, (outcome) => {
      if (of.done) return;
      // Without the token, where it stood there.
      of.facts.path = field(of.head, ':path') ?? of.facts.path;
      if (outcome.ok) {
        verified(outcome.token);
        return;
      }
      of.core.observer.count('token_refused');
      if (outcome.why === 'token_too_long') of.core.observer.count('token_too_long');
      of.details = `jwt_authn_access_denied{${outcome.why}}`;
      of.reply(401, `token refused: ${outcome.why}`, ['www-authenticate', 'Bearer error="invalid_token"']);
    });
  }

  /**
   * Has the external authorizer that `verdict` names decide, once as much of the body is there as it is to see, and goes
   * on to judge again; else answers. A client that goes away, or a time that runs out, ends the asking.
   */
  ask(verdict: AuthorizationResult, facts: CheckedFacts, next: () => void): void {
    const of = this.#of;
    const authorizer = verdict.ask as ExternalAuthorizer;
    // A tunnel has no body that ends.
    const wanted = of.facts.protocol === '' && of.facts.method !== 'CONNECT' ? authorizer.maxBodyBytes : 0;
    if (wanted === 0) {
      this.#ask(verdict, facts, NO_BODY, false, next);
      return;
    }
    if (field(of.head, 'expect') !== undefined) {
      removeField(of.head, 'expect');
      of.down.sendInterim([':status', '100']);
    }
    this.bodyWanted = wanted;
    this.#bodyThere = () => {
      this.#bodyThere = undefined;
      const body = Buffer.concat(of.body.kept);
      if (body.length > wanted && !authorizer.partialBody) {
        of.details = 'ext_authz_body_too_large';
        of.core.observer.count('ext_authz_body_too_large');
        of.reply(413, 'the body is longer than may be checked');
        return;
      }
      this.#ask(verdict, facts, body.subarray(0, wanted), body.length > wanted || !of.body.ended, next);
    };
    this.#bodyEnough = authorizer.partialBody ? wanted : wanted + 1;
    this.bodyGrew();
  }

  /** More of the request came. */
  bodyGrew(): void {
    if (this.#bodyThere && (this.#of.body.ended || this.#of.body.bytes >= this.#bodyEnough)) this.#bodyThere();
  }

  /** Takes off trailers what only we set in the head: applications may join the two. */
  cleanTrailers(fields: Head): void {
    for (let i = fields.length - 2; i >= 0; i -= 2) {
      if (this.#guarded.has(fields[i].replaceAll('_', '-'))) fields.splice(i, 2);
    }
  }

  /** The exchange is over. */
  cancel(): void {
    this.#check?.cancel();
    this.#check = undefined;
    this.#bodyThere = undefined;
  }

  #guard(name: string): void {
    this.#guarded.add(name.replaceAll('_', '-'));
  }

  #ask(verdict: AuthorizationResult, facts: CheckedFacts, body: Uint8Array, partial: boolean, next: () => void): void {
    const of = this.#of;
    const authorizer = verdict.ask as ExternalAuthorizer;
    const checked: Checked = {
      ...facts,
      body,
      bodyAsked: authorizer.maxBodyBytes > 0 && of.body.exists,
      size: of.body.ended ? of.body.bytes : -1,
      partial,
    };
    const tell = (outcome: CheckOutcome): void => {
      this.#check = undefined;
      if (of.done) return;
      if (outcome.kind === 'allow') {
        applyAllowed(outcome, of.head);
        for (const { name } of outcome.changes) this.#guard(name);
        for (const name of outcome.remove) this.#guard(name);
        of.facts.path = field(of.head, ':path') ?? of.facts.path;
        if (outcome.response.length > 0) this.responseOps.push({ remove: [], set: [], add: outcome.response });
      } else if (outcome.kind === 'deny') {
        of.addFlag('UAEX');
        of.details = 'ext_authz_denied';
        note(of.core, verdict, facts);
        of.answer(outcome.status, outcome.body, outcome.headers);
        return;
      } else if (authorizer.failOpen) of.core.observer.count('ext_authz_failure_mode_allowed');
      else {
        of.addFlag('UAEX');
        of.details = `ext_authz_error{${outcome.why}}`;
        note(of.core, verdict, facts);
        of.reply(authorizer.statusOnError, '');
        return;
      }
      this.approved.push(authorizer.name);
      next();
    };
    const call = checkWith(of.core, of.snapshot, authorizer, checked, tell);
    if (call && !call.abandoned) this.#check = call;
  }
}

function note(core: Core, verdict: AuthorizationResult, facts: CheckedFacts): void {
  const { principal, remoteIp: remote, localPort: port, method, path } = facts;
  noteAuthorization(core, verdict, { principal: principal || undefined, remote, port, method, path });
}
