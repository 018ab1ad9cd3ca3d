export { isFieldValue, isToken } from './chars.ts';
export { Http1Client, type Http1ClientOptions } from './client.ts';
export { Http1Server, type Http1ServerOptions } from './server.ts';
