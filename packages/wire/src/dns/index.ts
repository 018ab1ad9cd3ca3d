export { DnsTcpFramer } from './framing.ts';
export {
  type DnsAnswer,
  type DnsQuery,
  DnsRcode,
  type DnsResponse,
  DnsType,
  encodeName,
  encodeResponse,
  parseQuery,
} from './message.ts';
