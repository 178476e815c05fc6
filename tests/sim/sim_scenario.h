/* What the simulator can run; each is one file and one row in sim_main.c. */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H

#include "sim_world.h"

struct sim_scenario {
	const char *name;
	/* One run. ASSERTs what must hold; returns sim_digest() at its end. */
	uint64_t (*run)(uint64_t seed, bool verbose);
};

extern const struct sim_scenario sim_scenario_streams;
extern const struct sim_scenario sim_scenario_proxy;

#endif
