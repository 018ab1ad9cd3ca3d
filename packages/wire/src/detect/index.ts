export { type ClientHello, parseClientHello } from './client-hello.ts';
export { type Detected, detectProtocol } from './protocol.ts';
