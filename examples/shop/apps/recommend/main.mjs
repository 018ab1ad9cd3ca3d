// A gRPC service.
import grpc from '@grpc/grpc-js';
import { load } from './load.mjs';

const NEIGHBOURS = { tea: ['cup', 'pot'], cup: ['tea'], pot: ['tea', 'cup'] };
const server = new grpc.Server();
server.addService(load().Recommend.service, {
  Similar: (request, answer) => answer(null, { skus: NEIGHBOURS[request.request.sku] ?? [] }),
});
const at = `${process.env.HOST ?? '0.0.0.0'}:${process.env.PORT ?? 9000}`;
server.bindAsync(at, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log(`recommend listens on ${at}`);
});
process.on('SIGTERM', () => server.tryShutdown(() => process.exit(0)));
