import { parseIpBlock, WeftError } from '@weft/base';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { wholeNumber } from '../common.ts';
import { example } from '../example.ts';
import { findFiles, loadModel } from '../mesh.ts';
import { meshEntrances, networkPolicies, nftRules } from '../netpol.ts';

interface NetpolOptions {
  files: string[];
  output: 'k8s' | 'nft';
  monitoring: string[];
  open: number[];
}

/** `weft netpol`: the network's own guard before the mesh's. */
export function addNetpol(program: Command): void {
  example(
    program
      .command('netpol')
      .description('rules for the network that leave the mesh port as the only way into a workload')
      .argument('[workload]', 'NAME or NAMESPACE/NAME; needed for nft, whose rules are for one workload')
      .requiredOption('-f, --files <path...>', 'folders or files with the configuration')
      .addOption(
        new Option('-o, --output <format>', 'NetworkPolicies, or rules for "nft -f -" in the namespace of a workload')
          .choices(['k8s', 'nft'])
          .default('k8s'),
      )
      .option(
        '--monitoring <range>',
        'who may ask for metrics and probes: an address or a range, repeatable',
        range,
        [],
      )
      .option('--open <port>', 'nft: a further TCP port that is open to all, repeatable', port, [])
      .action(netpol),
    'weft netpol -f examples/shop/mesh --monitoring 10.0.0.0/8',
  );
}

function range(text: string, before: string[]): string[] {
  if (!parseIpBlock(text)) throw new InvalidArgumentError('an IP address or a range like 10.0.0.0/8 is needed.');
  return [...before, text];
}

function port(text: string, before: number[]): number[] {
  const number = wholeNumber(text);
  if (number < 1 || number > 65_535) throw new InvalidArgumentError('a port from 1 to 65535 is needed.');
  return [...before, number];
}

function netpol(workload: string | undefined, options: NetpolOptions): void {
  const warn = (line: string): void => void process.stderr.write(`${line}\n`);
  const model = loadModel(findFiles(options.files), warn);
  const all = meshEntrances(model, options.monitoring);
  const named = (w: (typeof all.workloads)[number]): boolean =>
    workload === undefined || w.process.name === workload || `${w.process.namespace}/${w.process.name}` === workload;
  const workloads = all.workloads.filter(named);
  if (workloads.length === 0) {
    const known = all.workloads.map((w) => `${w.process.namespace}/${w.process.name}`).join(', ');
    throw new WeftError('no-workload', `no workload ${workload ?? ''} with a proxy; there are: ${known || 'none'}`);
  }
  if (options.output === 'nft' && workloads.length > 1) {
    const names = workloads.map((w) => `${w.process.namespace}/${w.process.name}`).join(', ');
    throw new WeftError('which-workload', `nft rules are for one workload: name one of ${names}`);
  }
  if (options.output === 'k8s' && options.open.length > 0) {
    throw new WeftError('no-effect', '--open is for -o nft: a pod has no ports but those of its workload');
  }
  for (const line of all.warnings) {
    if (workload === undefined || workloads.some((w) => line.startsWith(`${w.process.namespace}/${w.process.name} `)))
      warn(`warning: ${line}`);
  }
  process.stdout.write(
    options.output === 'k8s' ? networkPolicies({ ...all, workloads }) : nftRules(workloads[0]!, options.open),
  );
}
