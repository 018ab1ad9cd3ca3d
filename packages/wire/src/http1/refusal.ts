/**
 * What a codec will not take: the status of its own answer (on the server), the counter `http1.<counter>` and words for
 * the log. Thrown inside the codec only; not an Error, since an attacker should not make us capture stacks.
 */
export class Refusal {
  readonly status: number;
  readonly counter: string;
  readonly detail: string;
  constructor(status: number, counter: string, detail: string) {
    this.status = status;
    this.counter = counter;
    this.detail = detail;
  }
}

export function lineTooLong(): Refusal {
  return new Refusal(414, 'request_line', 'the request line is longer than the limit');
}
