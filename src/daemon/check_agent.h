/* `agentproxyd check-agent SOCKET`: what an agent speaks, and whether it keeps
 * to the protocol. For people who write agents. */
#ifndef DAEMON_CHECK_AGENT_H
#define DAEMON_CHECK_AGENT_H

/* argv: what stands behind `check-agent`. The exit code: 0 if no probe failed,
 * 1 if one did, 2 if it was called wrong. Blocks for some seconds at most. */
int check_agent(int argc, char **argv);

#endif
