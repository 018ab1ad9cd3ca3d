/** `--token`: a token that a request is taken to carry, for questions. */
import type { TokenQuestion } from '@weft/lab';
import { InvalidArgumentError, Option } from 'commander';

export interface TokenOption {
  token?: TokenQuestion;
}

export function tokenOption(): Option {
  const what = 'the request carries a good token: {"issuer", "subject", "audiences", "claims"}';
  return new Option('--token <json>', what).argParser(readToken);
}

function readToken(text: string): TokenQuestion {
  const wrong = (why: string) => new InvalidArgumentError(`${why}, as {"issuer": "me", "claims": {"group": "a"}}.`);
  let token: TokenQuestion;
  try {
    token = JSON.parse(text) as TokenQuestion;
  } catch {
    throw wrong('it is to be JSON');
  }
  const { issuer, subject, audiences, claims, ...more } = token ?? {};
  if (typeof issuer !== 'string' || issuer === '') throw wrong('its issuer is to be a string');
  if (subject !== undefined && typeof subject !== 'string') throw wrong('its subject is to be a string');
  if (audiences !== undefined && !(Array.isArray(audiences) && audiences.every((a) => typeof a === 'string')))
    throw wrong('its audiences are to be a list of strings');
  if (claims !== undefined && (typeof claims !== 'object' || claims === null || Array.isArray(claims)))
    throw wrong('its claims are to be an object');
  const [unknown] = Object.keys(more);
  if (unknown !== undefined) throw wrong(`"${unknown}" is none of its fields`);
  return token;
}
