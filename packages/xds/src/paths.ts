/** Where the service is asked. */
import { AggregatedDiscoveryService } from './gen/envoy/service/discovery/v3/ads_pb.js';

/** The path of every method of the service begins with this. */
export const ADS_PREFIX = `/${AggregatedDiscoveryService.typeName}/`;
export const DELTA_PATH = `${ADS_PREFIX}${AggregatedDiscoveryService.method.deltaAggregatedResources.name}`;
