/**
 * Request targets and what becomes of each, written down by hand or generated from a rule of RFC 3986; nothing here
 * uses the code under test.
 */

export interface PathCase {
  /** As it stands in the request line, latin1. */
  readonly target: string;
  /** What is authorized and forwarded; undefined: refused, and nothing is forwarded. */
  readonly want: string | undefined;
  /** Where no policy has paths, so that `%2F` and `%5C` pass as they are; default `want`. */
  readonly kept?: string;
  /** Default both. */
  readonly only?: 'h1' | 'h2';
  readonly method?: string;
  /** Refused where it comes to B as it is, under a policy with paths; A's canonical form is without the escape. */
  readonly refusedByB?: boolean;
}

/** `target → want`; `!` for refused. */
const WRITTEN = `
/public → /public
/public/ → /public/
/public/x → /public/x
/private → /private
/private/ → /private/
/private/x → /private/x
/publicity → /publicity
/privately → /privately
/PRIVATE/x → /PRIVATE/x
/Private/x → /Private/x
/PUBLIC/x → /PUBLIC/x
/ → /
/index.html → /index.html
/public/.hidden → /public/.hidden
/public/..hidden → /public/..hidden
/public/... → /public/...
/public/.../x → /public/.../x
/public/x.. → /public/x..
/public/x. → /public/x.
/public/./x → /public/x
/public/. → /public/
/./public/x → /public/x
/././public/./././x → /public/x
/public/.. → /
/public/../ → /
/public/../private → /private
/public/../private/x → /private/x
/public/x/../../private/x → /private/x
/public/x/../x → /public/x
/private/../public/x → /public/x
/private/./x → /private/x
/private/. → /private/
/private/x/.. → /private/
/../private/x → /private/x
/../../../private/x → /private/x
/../../public/../private/x → /private/x
/.. → /
/. → /
/public/%2e%2e/private/x → /private/x
/public/%2E%2E/private/x → /private/x
/public/.%2e/private/x → /private/x
/public/%2e./private/x → /private/x
/public/%2e/x → /public/x
/%2e%2e/%2E%2e/private/x → /private/x
/%2e/private/x → /private/x
/private/%2e%2e/public/x → /public/x
/public/%2e%2ehidden → /public/..hidden
//private/x → /private/x
///private///x → /private/x
/private//x → /private/x
/private//x// → /private/x/
//public//x → /public/x
/public//../private/x → /public/private/x
/public///../../private/x → /public/private/x
/public/..//private/x → /private/x
/public/.//../private/x → /public/private/x
//../private/x → /private/x
/%70rivate/x → /private/x
/p%72ivate/x → /private/x
/priv%61te/x → /private/x
/privat%65/x → /private/x
/%70%72%69%76%61%74%65/x → /private/x
/%50rivate/x → /Private/x
/%70ublic/%78 → /public/x
/public/%7Euser → /public/~user
/public/%7euser → /public/~user
/public/~user → /public/~user
/public/a%2db%5fc%2Ed → /public/a-b_c.d
/public/%30%39%41%5A%61%7A → /public/09AZaz
/public/a%20b → /public/a%20b
/public/%c3%a9 → /public/%C3%A9
/public/%C3%A9 → /public/%C3%A9
/public/%e2%82%ac → /public/%E2%82%AC
/public/a+b → /public/a+b
/public/a%2bb → /public/a%2Bb
/public/a:b@c!d$e&f'g(h)i*j,k=l → /public/a:b@c!d$e&f'g(h)i*j,k=l
/public/a%3Ab → /public/a%3Ab
/public/a|b → /public/a|b
/public/a"b → /public/a"b
/public/{x}<y>^z → /public/{x}<y>^z
/public/[1] → /public/[1]
/public/a\`b → /public/a\`b
/public/..;/private/x → /public/..;/private/x
/public/..;a=b/private/x → /public/..;a=b/private/x
/public/%2e%2e;/private/x → /public/..;/private/x
/public/;/x → /public/;/x
/public;v=1/x → /public;v=1/x
/private;v=1/x → /private;v=1/x
/private;/x → /private;/x
/public/x;y → /public/x;y
/public/x%3By → /public/x%3By
/public/%2e%2e%3b/private → /public/..%3B/private
/public/%252e%252e/private/x → /public/%252e%252e/private/x
/public/%252E/x → /public/%252E/x
/public/%252f..%252fprivate → /public/%252f..%252fprivate
/public/%255c → /public/%255c
/public/%25 → /public/%25
/public/%25%32%65 → /public/%252e
/public/%2525 → /public/%2525
/public/%2500 → /public/%2500
/public/%c0%ae%c0%ae/private → /public/%C0%AE%C0%AE/private
/public/%c0%af..%c0%afprivate → /public/%C0%AF..%C0%AFprivate
/public/%e0%80%ae%e0%80%ae/private → /public/%E0%80%AE%E0%80%AE/private
/public/%e0%80%afprivate → /public/%E0%80%AFprivate
/public/%f0%80%80%ae/private → /public/%F0%80%80%AE/private
/public/%c1%9cprivate → /public/%C1%9Cprivate
/public/%ef%bc%8fprivate → /public/%EF%BC%8Fprivate
/public/%ef%bc%8e%ef%bc%8e/private → /public/%EF%BC%8E%EF%BC%8E/private
/public/%ff → /public/%FF
/public/%fe%fe%ff%ff → /public/%FE%FE%FF%FF
/public/%ed%a0%80 → /public/%ED%A0%80
/public/%u002e%u002e/private → !
/public/%u2215private → !
/public/%00 → !
/private%00/x → !
/public/x%00.html → !
/public/%0 → !
/public/% → !
/public/%zz → !
/public/%2 → !
/public/%%32%65 → !
/public/%2g → !
/public/%g2 → !
/public/%-1 → !
/public/%+2 → !
/public/%0x → !
/public/% 2 → !
/public/%0a → /public/%0A
/public/%0d%0aX:y → /public/%0D%0AX:y
/public/%09 → /public/%09
/public/%7f → /public/%7F
/public\\x → /public/x
/public\\..\\private\\x → /private/x
\\private\\x → !
/\\private\\x → /private/x
/public/..\\private/x → /private/x
/public\\\\x → /public/x
/public#/../private → !
/public/x#frag → !
/public/# → !
/public?x=1 → /public?x=1
/public? → /public?
/public/x?a=b&c=d → /public/x?a=b&c=d
/public/x?../../private → /public/x?../../private
/public?/../private/x → /public?/../private/x
/public/x?a=%2F%5c%00%zz → /public/x?a=%2F%5c%00%zz
/public/x??a=?b → /public/x??a=?b
/public/x?a=//b\\c → /public/x?a=//b\\c
/public/..?x=/public/ → /?x=/public/
/private?x=/public → /private?x=/public
/private/x?/../../public/x → /private/x?/../../public/x
/private%3Fx → /private%3Fx
/private%3f/../x → /x
/private%23x → /private%23x
/public/x?a#b → !
/private/x?%2e%2e/public → /private/x?%2e%2e/public
private/x → !
./private/x → !
../private/x → !
?/private → !
%2Fprivate/x → !
* → !
`;

const ENCODED_SLASHES = `
/public/a%2Fb → /public/a%2Fb
/public/a%2fb → /public/a%2Fb
/public/a%5Cb → /public/a%5Cb
/public/a%5cb → /public/a%5Cb
/public%2Fx → /public%2Fx
/private%2Fx → /private%2Fx
/private%5Cx → /private%5Cx
/%2Fprivate/x → /%2Fprivate/x
/public/..%2Fprivate/x → /public/..%2Fprivate/x
/public/%2e%2e%2fprivate/x → /public/..%2Fprivate/x
/public/..%5Cprivate/x → /public/..%5Cprivate/x
/public%2F..%2Fprivate/x → /public%2F..%2Fprivate/x
/public/%2F../private/x → /public/%2F../private/x
/public/%2F%2F/x → /public/%2F%2F/x
/public/x%2F..%2F..%2Fprivate?y → /public/x%2F..%2F..%2Fprivate?y
`;

/** RFC 9112 3.2.2: the authority leaves, what remains is canonical as any path. */
const ABSOLUTE = `
http://app/public/x → /public/x
http://app/private/x → /private/x
HTTP://APP/private/x → /private/x
http://app:8080/private/x → /private/x
http://app → /
http://app/ → /
http://app?x=1 → /?x=1
http://app/public/../private/x → /private/x
http://app//private/x → /private/x
http://app/%70rivate/x → /private/x
http://app/public/%2e%2e/private/x → /private/x
http://app/../private/x → /private/x
http://app/public/x?http://app/private → /public/x?http://app/private
http://app\\private/x → !
http://app/public#/private → !
http://app#/private → !
http://user@app/public/x → !
http://user:pw@app/private/x → !
http:///private/x → !
http:/private/x → !
http:private/x → !
http://app/%00 → !
http://app/%zz → !
ftp://app/public/x → !
file:///private/x → !
javascript:/public/x → !
://app/public/x → !
app:8080/public → !
app/public/x → !
http://a/b c → !
`;

function read(table: string, more: Partial<PathCase> = {}): PathCase[] {
  return table
    .trim()
    .split('\n')
    .map((line) => {
      const [target, want] = line.split(' → ');
      return { target, want: want === '!' ? undefined : want, ...more };
    });
}

const hex = (byte: number): string => byte.toString(16).padStart(2, '0');
const isUnreserved = (byte: number): boolean => /[A-Za-z0-9._~-]/.test(String.fromCharCode(byte));

/** Each byte as an escape, in capitals below one folder and in small letters below the other one. */
function escapes(): PathCase[] {
  const cases: PathCase[] = [];
  for (let byte = 0; byte < 256; byte++) {
    for (const [folder, digits] of [
      ['public', hex(byte).toUpperCase()],
      ['private', hex(byte)],
    ]) {
      const target = `/${folder}/a%${digits}b`;
      const said = isUnreserved(byte) ? String.fromCharCode(byte) : `%${hex(byte).toUpperCase()}`;
      const kept = byte === 0 ? undefined : `/${folder}/a${said}b`;
      const slash = byte === 0x2f || byte === 0x5c;
      cases.push({ target, want: slash ? undefined : kept, kept });
    }
  }
  return cases;
}

/** Each byte as it is: visible ASCII passes, but for what has a meaning. */
function bytes(): PathCase[] {
  const cases: PathCase[] = [];
  for (let byte = 0; byte < 256; byte++) {
    const char = String.fromCharCode(byte);
    const target = `/public/a${char}b`;
    const visible = byte > 0x20 && byte < 0x7f && char !== '#' && char !== '%';
    cases.push({ target, want: visible ? target.replace('\\', '/') : undefined });
  }
  return cases;
}

/** The forbidden folder spelled in every mixture of plain letters and escapes. */
function spellings(): PathCase[] {
  const word = [...'private'];
  return Array.from({ length: 1 << word.length }, (_, mask) => {
    const spelled = word.map((c, i) => ((mask >> i) & 1 ? `%${hex(c.charCodeAt(0))}` : c)).join('');
    return { target: `/${spelled}/x`, want: '/private/x' };
  });
}

/** All cases, or a part of the generated ones. */
export function pathCases(short: boolean): PathCase[] {
  const generated = [...escapes(), ...bytes(), ...spellings()];
  return [
    ...read(WRITTEN),
    ...read(ENCODED_SLASHES).map((c) => ({ ...c, kept: c.want, want: undefined })),
    ...read(ABSOLUTE, { only: 'h1' }),
    ...read(ABSOLUTE, { only: 'h2' }).map((c) => ({ ...c, want: undefined })),
    { target: '*', want: '*', method: 'OPTIONS' },
    { target: '/public/%2F/../private/x', want: '/public/private/x', refusedByB: true },
    ...(short ? generated.filter((_, i) => i % 12 === 0) : generated),
  ];
}
