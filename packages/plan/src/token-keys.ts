/** What a key must be so that tokens by it are believed (TokenRule.jwks). Pure: configuration, control plane and proxy ask it. */

declare function atob(text: string): string;

export type Jwk = Readonly<Record<string, unknown>>;

const LEAST_RSA_BITS = 2048;
const CURVES: Readonly<Record<string, readonly string[]>> = {
  EC: ['P-256', 'P-384', 'P-521'],
  OKP: ['Ed25519'],
};

/** Why the key may not verify tokens; undefined where it may. */
export function keyProblem(key: unknown): string | undefined {
  if (typeof key !== 'object' || key === null) return 'a key is an object';
  const { kty, crv, n, e } = key as Jwk;
  if (typeof kty !== 'string') return 'a key has a kind ("kty")';
  if (kty === 'oct') return 'a shared secret ("oct") lets every holder make tokens: public keys are needed';
  if (Object.hasOwn(key, 'd')) return 'this is a private key ("d"): public keys are needed';
  if (kty === 'RSA') return rsaProblem(numberOf(n), numberOf(e));
  const curves = Object.hasOwn(CURVES, kty) ? CURVES[kty] : undefined;
  if (!curves) return `keys of kind ${JSON.stringify(kty.slice(0, 40))} are not known: RSA, EC or OKP`;
  if (!curves.includes(crv as string)) return `a key of kind ${kty} is of the curve ${curves.join(', ')}`;
  return undefined;
}

function rsaProblem(n: bigint | undefined, e: bigint | undefined): string | undefined {
  if (n === undefined || e === undefined) return 'an RSA key has "n" and "e", in base64url';
  if (n.toString(2).length < LEAST_RSA_BITS) return `an RSA key has at least ${LEAST_RSA_BITS} bits`;
  // With 1 every text is its own signature.
  if (e < 3n || e % 2n === 0n) return 'the exponent of an RSA key is odd, and at least 3';
  return isRoca(n) ? 'this RSA key was made by a chip whose keys can be factored (ROCA, CVE-2017-15361)' : undefined;
}

function numberOf(text: unknown): bigint | undefined {
  if (typeof text !== 'string' || !/^[A-Za-z0-9_-]{1,4096}$/.test(text)) return undefined;
  let hex = '';
  try {
    for (const c of atob(text.replaceAll('-', '+').replaceAll('_', '/'))) {
      hex += c.charCodeAt(0).toString(16).padStart(2, '0');
    }
  } catch {
    return undefined;
  }
  return BigInt(`0x${hex || '0'}`);
}

const SMALL_PRIMES = [
  ...[3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109],
  ...[113, 127, 131, 137, 139, 149, 151, 157, 163, 167],
];

/**
 * Primes of such chips are powers of 65537 modulo all small primes, and so are their products. Of other moduli about one
 * in 2^27 is, for all of these primes.
 */
function isRoca(n: bigint): boolean {
  return SMALL_PRIMES.every((prime) => {
    const rest = Number(n % BigInt(prime));
    let power = 1;
    do {
      if (power === rest) return true;
      power = (power * 65537) % prime;
    } while (power !== 1);
    return false;
  });
}
