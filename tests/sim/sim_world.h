/*
 * A simulated world: a clock, a network and the peers in it, for whole
 * exchanges on a virtual time. sim_loop.c and sim_sock.c are the twins of
 * src/net/loop.c and sock.c on top of it; everything above those two is the
 * daemon's own code. Peers are scripted with the functions below.
 *
 * Everything that may differ from run to run is drawn from one seed: how bytes
 * are split, how long they take, how much a send takes, which of two ready
 * sockets is first. The same seed is the same run. Nothing depends on
 * addresses of objects or on the time of day; a script must not either.
 *
 * Two kinds of connection: TCP-like (slow, resets may overtake data, connects
 * end later) and Unix-like (fast, connects end at once). Both have bounded
 * buffers. They behave at the edges as Linux under libevent does: an error is
 * told as readable and writable without hang-up, bytes that came before a
 * reset can still be read, a close with unread bytes resets.
 *
 * One world at a time per process. Not thread safe.
 *
 * A run:
 *	struct sim_world *w = sim_world_new(seed, verbose);
 *	sim_listen(w, "unix:/waf.sock", &waf_events, &waf);
 *	... make loops and the daemon's objects ...
 *	c = sim_connect(w, "127.0.0.1:8080", &client_events, &client);
 *	sim_peer_send(c, ...);
 *	sim_run(w, 10 * SIM_SECOND);
 *	... tear down; sim_run() again for what that leaves ...
 *	sim_world_free(w);	// complains about descriptors left open
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "base/slice.h"

#define SIM_MS		UINT64_C(1000)
#define SIM_SECOND	UINT64_C(1000000)

struct sim_world;
struct sim_peer;

/* What may go how wrong; times in microseconds, chances per 1000. Drawn from
 * the seed by sim_world_new(); a test may set its own. */
struct sim_profile {
	uint32_t tcp_latency_min, tcp_latency_max;
	uint32_t unix_latency_min, unix_latency_max;
	uint32_t spike_chance, spike_max;	/* of one piece's latency */
	uint32_t split_chance;	/* that a write arrives in pieces */
	uint32_t short_chance;	/* that a send takes less than it could */
	uint32_t refuse_chance;	/* that a send takes nothing for a while */
	uint32_t buffer_min, buffer_max;	/* bytes per direction */
	uint32_t late_max;	/* how late a deadline may fire */
	uint32_t turn_max;	/* virtual time that a loop's turn takes */
};

struct sim_world *sim_world_new(uint64_t seed, bool verbose);
/* Closes what scripts left; ASSERTs that the program has closed everything. */
void sim_world_free(struct sim_world *w);
struct sim_profile *sim_profile(struct sim_world *w);
/* No splits, no short sends, no spikes, no late deadlines. */
void sim_calm(struct sim_world *w);
/* While a loop turns, so many of a million allocations fail. 0: none. */
void sim_memory_faults(struct sim_world *w, uint32_t per_million);

uint64_t sim_now(const struct sim_world *w);	/* microseconds */
/* A number that sums up all that has happened: same seed, same digest. */
uint64_t sim_digest(const struct sim_world *w);
/* For what a script draws; the program's draws do not disturb it. */
uint64_t sim_random(struct sim_world *w);
uint64_t sim_below(struct sim_world *w, uint64_t n);	/* 0 to n-1 */
bool sim_chance(struct sim_world *w, uint32_t per_1000);
/* A line of the verbose run. */
void sim_trace(struct sim_world *w, const char *fmt, ...) PRINTF(2, 3);

/* ---- running ------------------------------------------------------------- */

/*
 * Turns all loops and moves time until `until_us`, or until nothing is left
 * that could ever happen. Returns false if the latter. ASSERTs that loops do
 * not turn for ever without time passing.
 */
bool sim_run(struct sim_world *w, uint64_t until_us);
/* The same until done(arg) says true, which is asked after every step. False:
 * it never did until until_us. */
bool sim_run_until(struct sim_world *w, uint64_t until_us,
		   bool (*done)(void *arg), void *arg) MUST_CHECK;

/* fn(arg) in delay_us. Returns a number to cancel it by, never 0. */
uint64_t sim_after(struct sim_world *w, uint64_t delay_us,
		   void (*fn)(void *arg), void *arg);
void sim_cancel(struct sim_world *w, uint64_t id);

/* ---- scripted peers ------------------------------------------------------ */

/*
 * Called by sim_run(), never from inside a call of the script's or of the
 * program's. Any may be NULL.
 */
struct sim_peer_events {
	/* The connection stands: a client's connect has ended well. */
	void (*on_open)(struct sim_peer *p);
	/* p belongs to a listener and is new; set its ctx here. */
	void (*on_accept)(struct sim_peer *p);
	void (*on_data)(struct sim_peer *p, const char *data, size_t n);
	/* The program will send no more. */
	void (*on_eof)(struct sim_peer *p);
	/* Refused or reset: error is -errno. The last call for p. */
	void (*on_error)(struct sim_peer *p, int error);
};

struct sim_peer {
	void *ctx;	/* the script's; a listener's until it is set */
	const struct sim_peer_events *events;
	struct sim_world *world;
	unsigned id;	/* as in the trace */
	bool closed;	/* by the script, or after on_error() */
};

/* Peers live until sim_world_free(). Addresses as in base/addr.h. */

/* Connects to a listener of the program's. from: the address that the program
 * sees, or NULL. What is sent before on_open() waits. */
struct sim_peer *sim_connect(struct sim_world *w, const char *address,
			     const char *from,
			     const struct sim_peer_events *events, void *ctx);
/* A server of the script's. */
void sim_listen(struct sim_world *w, const char *address,
		const struct sim_peer_events *events, void *ctx);
/* It is gone: ENOENT (Unix) or ECONNREFUSED (TCP) from now on. */
void sim_unlisten(struct sim_world *w, const char *address);

enum sim_fate {
	SIM_NORMAL,
	SIM_REFUSED,	/* ECONNREFUSED, also on a Unix socket */
	SIM_BLACKHOLE,	/* TCP: never ends; Unix: EAGAIN, the backlog is full */
};

/* What becomes of the program's connects to this address. */
void sim_set_fate(struct sim_world *w, const char *address,
		  enum sim_fate fate);

/* Copies; never refuses. What the network does not take yet waits. */
void sim_peer_send(struct sim_peer *p, const void *data, size_t n);
void sim_peer_print(struct sim_peer *p, const char *fmt, ...) PRINTF(2, 3);
/* Half-close, after what was sent. */
void sim_peer_shutdown(struct sim_peer *p);
/* Close after what was sent. No call for p comes after it, and what the
 * program still sends makes it a reset, as with any socket. */
void sim_peer_close(struct sim_peer *p);
/* At once; what is under way may be lost. */
void sim_peer_reset(struct sim_peer *p);
/* on: on_data() and on_eof() stop, the program's sends fill the buffers. */
void sim_peer_stall(struct sim_peer *p, bool on);
/* Bytes that sim_peer_send() was given and the program has not read. */
size_t sim_peer_unread(const struct sim_peer *p);

#endif
