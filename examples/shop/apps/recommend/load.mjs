import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

export function load() {
  return grpc.loadPackageDefinition(loader.loadSync(new URL('recommend.proto', import.meta.url).pathname)).shop.v1;
}
