/* Between the files of the simulator. Scripts do not include this. */
#ifndef SIM_INT_H
#define SIM_INT_H

#include "base/addr.h"
#include "net/loop.h"
#include "sim_world.h"

enum seg_kind { SEG_DATA, SEG_FIN, SEG_RST };

/* What is under way to an end, in order. */
struct seg {
	struct seg *next;
	uint64_t at_us;
	enum seg_kind kind;
	size_t pos, n;
	char data[];
};

struct seg_queue {
	struct seg *first, *last;
	size_t bytes;
};

enum end_state {
	END_LISTENING,
	END_CONNECTING,
	END_OPEN,
	END_CLOSED,
};

/*
 * One end of a connection, or a listener; the program's or a script's. Ends
 * stay until the world goes, so that no pointer to one ever dangles.
 */
struct sim_end {
	struct sim_end *next;		/* all of the world's, newest first */
	struct sim_world *world;
	struct sim_end *other;
	int id;				/* the program's descriptor */
	enum end_state state;
	bool unix_like, script;

	/* coming in */
	struct seg_queue flight, visible;
	uint64_t last_at_us;		/* when the last in flight arrives */
	size_t capacity;
	bool fin_in;
	int error;			/* errno, told once */
	bool broken;			/* after a reset */

	/* going out */
	bool fin_out;
	bool no_space;			/* owed an edge when there is space */
	bool choked;			/* takes nothing for a while */

	/* the program's */
	struct watch *watch;
	struct cds_list_head ready;	/* in its loop's list */
	struct net_addr peer_addr;

	/* a listener's */
	char address[NET_ADDR_TEXT];
	struct sim_end *backlog, *backlog_next, *next_listener;

	/* a script's */
	struct sim_peer peer;
	char *pending;
	size_t pending_at, pending_n, pending_size;
	bool greeted;			/* on_open() or on_accept() was told */
	bool shutdown_pending, close_pending, stalled, eof_told;
};

struct sim_event {
	uint64_t at_us, seq;
	void (*fn)(void *arg);
	void *arg;
};

/* A loop; see sim_loop.c. */
struct sim_loop {
	struct loop pub;
	struct sim_loop *next;
	struct cds_list_head ready;	/* ends with an edge */
	struct cds_list_head deadlines;	/* by time */
	struct post *posts, *posts_last;
	bool stop;
};

struct fate {
	struct fate *next;
	enum sim_fate fate;
	char address[NET_ADDR_TEXT];
};

struct sim_world {
	uint64_t now_us, seed, digest;
	uint64_t rng_net[4], rng_script[4], rng_program[4];
	struct sim_profile profile;
	bool verbose;
	bool in_turn;
	uint32_t fail_per_million;
	struct sim_event *heap;
	size_t n_heap, heap_size;
	uint64_t next_seq;
	struct sim_end *ends, *listeners;
	struct sim_end **by_id;
	size_t by_id_size;
	int next_id;
	int open_fds;
	struct fate *fates;
	struct sim_loop *loops;
};

/* The one world there is. */
struct sim_world *sim_the(void);

/* Draws of the network's own. */
uint64_t net_below(struct sim_world *w, uint64_t n);
uint64_t net_between(struct sim_world *w, uint64_t min, uint64_t max);
bool net_chance(struct sim_world *w, uint32_t per_1000);
void sim_program_random(struct sim_world *w, void *buf, size_t n);
/* Adds to the digest. */
void sim_note(struct sim_world *w, uint64_t a, uint64_t b);

#define FIRST_FD	1000

struct sim_end *end_new(struct sim_world *w, bool unix_like, bool script);
struct sim_end *end_of_fd(int fd);
/* WATCH_READ, WRITE and HUP as libevent would tell them now. */
unsigned end_mask(const struct sim_end *e);
/* Something has changed: an edge for the program, or calls for the script. */
void end_notify(struct sim_end *e);
size_t end_send(struct sim_end *e, const char *p, size_t n);
void end_send_fin(struct sim_end *e);
void end_send_rst(struct sim_end *e, bool overtake);
/* Takes up to n visible bytes. */
size_t end_take(struct sim_end *e, char *buf, size_t n);
void end_close(struct sim_end *e, bool hard);
/* The other end of a program's connect, or -errno at once. */
int net_connect(struct sim_world *w, const struct net_addr *a,
		struct sim_end **out);
struct sim_end *listener_find(struct sim_world *w, const char *address);
void listener_open(struct sim_end *e, const char *address);
struct sim_end *listener_take(struct sim_end *listener);
uint64_t net_latency(struct sim_world *w, bool unix_like);

/* Script side, called by the network. */
void script_deliver(struct sim_end *e);
void script_push(struct sim_end *e);

/* One turn of a loop, and when it wants the next: now if it has work. */
void sim_loop_turn(struct sim_loop *l);
bool sim_loop_has_work(struct sim_loop *l);
uint64_t sim_loop_next_us(struct sim_loop *l);

#endif
