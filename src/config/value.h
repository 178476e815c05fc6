/*
 * Scalars of a config: text into values and back. Pure. A parser that says
 * false has put the reason into why[VALUE_WHY].
 */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include "config/model.h"

#define VALUE_WHY	200
#define VALUE_TEXT	32

/* "250ms", "5s", "2min", "1h", "0"; microseconds. */
bool value_duration(const char *text, uint64_t *us, char *why) MUST_CHECK;
/* "4096", "64KiB", "10MiB", "1GiB"; bytes. */
bool value_size(const char *text, uint64_t *bytes, char *why) MUST_CHECK;
bool value_number(const char *text, uint64_t *n, char *why) MUST_CHECK;
bool value_bool(const char *text, bool *yes, char *why) MUST_CHECK;
/* out->text is left alone. */
bool value_address(const char *text, struct net_addr *out, char *why)
	MUST_CHECK;
/* "10.0.0.0/8", "::1"; host bits are cleared, v4-mapped becomes IPv4. */
bool value_network(const char *text, struct config_network *out, char *why)
	MUST_CHECK;
/* An absolute path that fits a Unix socket's address. */
bool value_socket_path(const char *text, char *why) MUST_CHECK;
/* A name of an agent, route, ...: a label in metrics, a word in logs. */
bool value_name(const char *text, char *why) MUST_CHECK;
/* RFC 9110 token. */
bool value_token(const char *text, char *why) MUST_CHECK;
/* A host to match: [*.]name, [v6]; no port. Any case. */
bool value_host(const char *text, char *why) MUST_CHECK;
/* A path to match, as http_path_normalise() leaves it. */
bool value_path(const char *text, char *why) MUST_CHECK;

/* The largest unit that leaves no rest. NUL-terminated. */
void value_duration_print(uint64_t us, char out[VALUE_TEXT]);
void value_size_print(uint64_t bytes, char out[VALUE_TEXT]);

#endif
