/**
 * Pure decisions over a plan. No I/O, no clock, no randomness of its own. Signatures:
 *
 * snapshot.ts     buildSnapshot(parts, endpoints, previous?): Snapshot          throws WeftError (bad regex): NACK the plan
 * find-service.ts findService(snapshot, address, port): ServicePortView | undefined
 *                 findServiceByAuthority(snapshot, authority, port): ServicePortView | undefined
 *                 resolveName(snapshot, name): { addresses, service } | undefined
 * canonical.ts    canonicalPath(raw, encodedSlash?, method?): string | PathProblem
 *                 canonicalAuthority(raw): Authority | undefined               undefined: 400
 *                 canonicalHead(head, encodedSlash?): PathProblem | undefined  changes head's :authority and :path in place
 * route.ts        routeHttp(view, head, random): RouteDecision                  head as canonicalHead left it
 * route-connection.ts  routeTcp(view, random, dialled), routeTls(view, serverName, random, dialled): TcpDecision | undefined
 * header-ops.ts   applyHeaderOps(head, ops): void
 * edge.ts         edgeHead(head, remoteAddress, secure, trustedProxies): boolean; visitorAddress(head, remoteAddress, trusted)
 * gateway.ts      findGatewayServer(port, serverName), findVirtualHost(server, authority): whose certificate, whose routes
 * pick.ts         pickEndpoint(snapshot, cluster, random, nowMs, exclude?, hash?): EndpointView | 'none'
 * affinity.ts     affinityHash(cluster, head, remoteIp): number; newAffinityCookie(cluster, random)
 * pool.ts         acquireRequest/releaseRequest, acquirePending/…, acquireRetry/…, acquireConnection/… (cluster): boolean
 *                 takeUse(cluster): boolean                                     asked for since the last call
 *                 onStart(endpoint), onEnd(endpoint)                            active count of the endpoint
 * outlier.ts      learns(cluster): boolean                                      false: no need to tell onResult
 *                 onResult(endpoint, cluster, outcome, nowMs): boolean          true: this result ejected it
 *                 sweep(snapshot, nowMs, onReturn?): void                       call about once a second
 * accrual.ts      probeDue(cluster, nowMs): EndpointView | undefined            the breaker with a live probe
 * health.ts       dueChecks(snapshot, nowMs, random, ask), onHealthCheck(…): 'in' | 'out' | undefined   active health checks
 * rate-limit.ts   takeRate(view, principal, nowMs): 'allow' | 'total' | 'identity'
 * rate-demand.ts  takeRateDemands(snapshot, nowMs), applyRateShares(snapshot, answer, nowMs): a limit of several replicas
 * rate-share.ts   divideRate(wanted): number[]; RateDivision: who gets which part of such a limit
 * retry.ts        retryDecision(policy, outcome, attempt, random): { retry, delayMs, reason }
 * authorize.ts    authorize(snapshot, request): AuthorizationResult
 * authenticate.ts authenticate(inbound, { mtls }): boolean; authenticatePort(snapshot, port, { mtls }): boolean
 *                 findInbound(snapshot, port): Inbound | undefined
 * grpc.ts         httpToGrpcStatus(status), grpcToHttpStatus(code), grpcStatusName(code), grpcTimeoutMs(field)
 */
export * from './accrual.ts';
export * from './affinity.ts';
export * from './authenticate.ts';
export * from './authorize.ts';
export { claimOf } from './authorize-rule.ts';
export * from './authorize-trace.ts';
export * from './canonical.ts';
export * from './compile.ts';
export * from './draw.ts';
export * from './edge.ts';
export * from './ewma.ts';
export * from './fail-fast.ts';
export * from './find-service.ts';
export * from './gateway.ts';
export * from './grpc.ts';
export * from './hash.ts';
export { applyHeaderOps, type HeaderOps } from './header-ops.ts';
export * from './health.ts';
export * from './locality.ts';
export * from './match.ts';
export * from './outlier.ts';
export * from './pick.ts';
export * from './pool.ts';
export * from './rate-demand.ts';
export * from './rate-limit.ts';
export * from './rate-share.ts';
export * from './retry.ts';
export { mirrorAuthority } from './rewrite.ts';
export * from './route.ts';
export * from './route-connection.ts';
export * from './route-match.ts';
export * from './session.ts';
export * from './snapshot.ts';
export * from './tcp-fault.ts';
export * from './transport.ts';
export * from './views.ts';
