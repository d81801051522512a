"""The vocabulary that client, service and worker share: config, states, ids, errors, report."""
