import { Command } from 'commander';

/** `weft` without any command. */
export function rootCommand(): Command {
  return new Command('weft')
    .description('A service mesh: ordinary Kubernetes and Istio files, on a laptop, on hosts, on Kubernetes.')
    .version('0.1.0')
    .exitOverride()
    .showHelpAfterError('(add --help for the options)')
    .configureHelp({ helpWidth: 100 });
}
