import type { Peer } from '../stage.ts';
import { direct } from './direct.ts';
import { envoy, envoyConnect } from './envoy.ts';
import { haproxy } from './haproxy.ts';
import { nginx } from './nginx.ts';
import { weft } from './weft.ts';

/** In the order of the columns; Weft is first. */
export const peers: readonly Peer[] = [weft, haproxy, nginx, envoy, envoyConnect, direct];
