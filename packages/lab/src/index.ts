/** Questions without traffic: what would happen to a request, asked of the same engine that the proxies run. */
export {};
