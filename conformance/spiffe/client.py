"""A workload as users of the package spiffe write it: prints its id, or ends with the reason why not."""

import jwt
from spiffe import TrustDomain, WorkloadApiClient, X509Source

with WorkloadApiClient() as client:
    svid = client.fetch_x509_svid()
    domain = TrustDomain("cluster.local")
    roots = client.fetch_x509_bundles().get_bundle_for_trust_domain(domain)
    assert roots is not None and len(roots.x509_authorities) >= 1, "no root"
    assert svid.leaf.public_key() == svid.private_key.public_key(), "the key is not the certificate's"
    token = client.fetch_jwt_svid(audience={"payment"})
    keys = client.fetch_jwt_bundles().get_bundle_for_trust_domain(domain)
    assert keys.get_jwt_authority(jwt.get_unverified_header(token.token)["kid"]), "the token's key is not published"
    valid = client.validate_jwt_svid(token.token, audience="payment")
    assert valid.spiffe_id == svid.spiffe_id == token.spiffe_id, "not one id"
    try:
        client.validate_jwt_svid(token.token, audience="somebody")
    except Exception as error:
        refusal = str(error)
    else:
        raise SystemExit("a token for another audience is good")
    assert "JWT" in refusal, refusal
with X509Source() as source:
    assert source.get_x509_context().default_svid.spiffe_id == svid.spiffe_id
print(svid.spiffe_id)
