/** What may be shown of a part: all but keys. */
import { create } from '@bufbuild/protobuf';
import { type Part, PartSchema } from './gen/weft/plan/v1/plan_pb.js';

/** The part itself, or a copy without its key. Whatever leaves the process as text goes through here. */
export function withoutKeys(part: Part): Part {
  if (part.kind.case !== 'secret') return part;
  const { ref, name, certificatePem, caPem, crlPem } = part.kind.value;
  return create(PartSchema, {
    kind: { case: 'secret', value: { ref, name, certificatePem, caPem, crlPem, keyPem: '' } },
  });
}
