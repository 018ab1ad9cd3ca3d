// A batch job: looks at the stock once and ends.
import { call } from '../lib/http.mjs';

for (const sku of ['tea', 'cup', 'pot']) {
  const answer = await call('inventory', 'GET', `/stock/${sku}`);
  if (answer.status !== 200) {
    console.error(`restock: ${sku}: ${answer.status}`);
    process.exit(1);
  }
  console.log(`restock: ${sku}: ${answer.json.count} left`);
}
process.exit(0);
