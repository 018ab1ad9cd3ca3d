import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import test from 'node:test';
import { asksOnlyFor, requestedKey, requestedKeyId } from './csr.ts';
import { keyIdOf } from './key-id.ts';
import { createKeyAndCsr } from './request.ts';

/** Lengths of names that make every form of a DER length, in each of the nested parts. */
const PATHS = [1, 30, 60, 75, 80, 90, 100, 110, 130, 200, 230, 250, 300, 2000];

test('a request is signed by its own key, and asks for the one name that was given', async () => {
  for (const length of PATHS) {
    const id = `spiffe://cluster.local/ns/shop/sa/${'x'.repeat(length)}`;
    const { keyPem, csrPem } = await createKeyAndCsr(id);
    const key = createPrivateKey(keyPem);
    assert.equal(key.asymmetricKeyDetails?.namedCurve, 'prime256v1');
    assert.equal(await requestedKeyId(csrPem), keyIdOf(createPublicKey(key)), `${length}`);
    assert.equal(asksOnlyFor(csrPem, id), true, `${length}`);
    assert.equal(asksOnlyFor(csrPem, `${id}y`), false);
  }
});

test('without a name it asks for none, and each time there is a new key', async () => {
  const [one, two] = [await createKeyAndCsr(), await createKeyAndCsr()];
  await requestedKey(one.csrPem);
  assert.equal(asksOnlyFor(one.csrPem, 'spiffe://cluster.local/ns/shop/sa/cart'), true);
  assert.notEqual(await requestedKeyId(one.csrPem), await requestedKeyId(two.csrPem));
});
