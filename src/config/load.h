/*
 * A config file into a model. Control thread; the result may be read anywhere.
 */
#ifndef CONFIG_LOAD_H
#define CONFIG_LOAD_H

#include <stdio.h>

#include "config/model.h"

/*
 * Reads and checks FILE. Faults go to `faults`, one line each, all of them,
 * as FILE:LINE:COL: KEY: TEXT. NULL if there was any.
 */
struct config *config_load(const char *file, FILE *faults) MUST_CHECK;
/* The same for text that is already in memory; `file` names it in faults. */
struct config *config_load_text(const char *file, struct slice text,
				FILE *faults) MUST_CHECK;
void config_free(struct config *config);

/* The effective config as a JSON object, for /config. */
void config_print_json(const struct config *config, FILE *out);

#endif
