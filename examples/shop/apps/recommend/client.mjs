import grpc from '@grpc/grpc-js';
import { serviceAddress } from '../lib/http.mjs';
import { load } from './load.mjs';

let client;

export function recommend(sku, headers) {
  const to = serviceAddress('recommend', 9000);
  client ??= new (load().Recommend)(`${to.host}:${to.port}`, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return new Promise((resolve, reject) => {
    client.Similar({ sku }, metadata, { deadline: Date.now() + 5000 }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}
