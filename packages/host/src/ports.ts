import net from 'node:net';
import { WeftError } from '@weft/base';
import type { ProcessSpec } from './specs.ts';

/** A taken port is said before anything starts. */
export async function checkPorts(spec: ProcessSpec, name: string, address: string): Promise<void> {
  const own = spec.gateway
    ? [15008, 15020, 15021]
    : spec.injected
      ? [15001, 15008, 15020, 15021]
      : spec.left
        ? [15001]
        : [];
  for (const port of spec.ports.map((p) => p.number).concat(own)) {
    await new Promise<void>((resolve, reject) => {
      const server = net.createServer();
      server.once('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'EADDRINUSE') {
          reject(
            new WeftError(
              'port-used',
              `${name}: ${address}:${port} is in use by another process: stop it, or choose another port for ${spec.name}`,
            ),
          );
        } else if (error.code === 'EACCES') {
          reject(new WeftError('port-refused', `${name}: port ${port} needs root: choose one from 1024 up`));
        } else reject(new WeftError('port', `${name}: ${address}:${port}: ${error.message}`));
      });
      server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve()));
    });
  }
}
