/*
 * From a file to all workers. Everything that may fail comes before anything
 * that can be seen; then the workers are told, and once all have switched the
 * sockets that no listener has any more are closed. The former snapshot lives
 * on until its last exchange has ended.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "config/load.h"
#include "daemon/changes.h"
#include "daemon/control.h"
#include "daemon/notify.h"

/* ---- the death of a snapshot -------------------------------------------- */

struct keeper {
	struct letter letter;
	struct control *control;
	struct snapshot *snapshot;
};

static void on_grace_over(struct letter *l)
{
	struct keeper *k = container_of(l, struct keeper, letter);

	k->control->snapshots_live--;
	snapshot_free(k->snapshot);
	mem_free(k);
}

/* liburcu's thread. */
static void on_grace(struct rcu_head *head)
{
	struct snapshot *s = container_of(head, struct snapshot, rcu);
	struct keeper *k = s->owner;

	inbox_send(&k->control->inbox, &k->letter, on_grace_over);
}

static void on_released(struct letter *l)
{
	struct keeper *k = container_of(l, struct keeper, letter);

	rcu_defer(&k->snapshot->rcu, on_grace);
}

/* The last worker's thread. */
static void on_last_release(struct snapshot *s)
{
	struct keeper *k = s->owner;

	inbox_send(&k->control->inbox, &k->letter, on_released);
}

/* Consumes config. NULL: no memory. */
static struct snapshot *make_snapshot(struct control *c, struct config *config)
{
	struct keeper *k = mem_zalloc(sizeof(*k));
	struct snapshot *s;

	if (!k) {
		config_free(config);
		return NULL;
	}
	s = snapshot_new(config, c->current ? c->current->generation + 1 : 1,
			 c->current, c->shared.n_workers, c->shared.metrics);
	if (!s) {
		mem_free(k);
		return NULL;
	}
	k->control = c;
	k->snapshot = s;
	s->owner = k;
	s->on_released = on_last_release;
	return s;
}

/* One that no worker has seen. */
static void drop_snapshot(struct snapshot *s)
{
	mem_free(s->owner);
	snapshot_free(s);
}

/* ---- what changes for the listeners ------------------------------------- */

void switch_order_fini(struct switch_order *o)
{
	mem_free(o->stop);
	mem_free(o->begin);
	*o = (struct switch_order){ 0 };
}

/* Has config a listener of l's name at the same socket? */
static bool has_listener(const struct control *c, const struct config *config,
			 const struct config_listener *l)
{
	const struct bound *b = sockets_find(&c->sockets, &l->address.addr);

	for (unsigned i = 0; config && i < config->n_listeners; i++) {
		const struct config_listener *k = &config->listeners[i];

		if (strcmp(k->name, l->name) == 0 &&
		    sockets_find(&c->sockets, &k->address.addr) == b)
			return true;
	}
	return false;
}

/* The listeners of `of` that `other` does not have, into list. */
static unsigned list_changes(const struct control *c, const struct config *of,
			     const struct config *other,
			     struct listen_change *list)
{
	unsigned n = 0;

	for (unsigned i = 0; of && i < of->n_listeners; i++) {
		const struct config_listener *l = &of->listeners[i];

		if (has_listener(c, other, l))
			continue;
		list[n].name = l->name;
		list[n++].bound = sockets_find(&c->sockets, &l->address.addr);
	}
	return n;
}

/* Where agents dial in; NULL: nowhere. */
static const struct bound *find_door(const struct control *c,
				     const struct config *config)
{
	if (!config || !config->agent_listener.address.text)
		return NULL;
	return sockets_find(&c->sockets, &config->agent_listener.address.addr);
}

static bool make_order(struct control *c, struct snapshot *s,
		       struct switch_order *o)
{
	const struct config *old = c->current ? c->current->config : NULL;

	*o = (struct switch_order){ .snapshot = s };
	o->stop = mem_zalloc((old ? old->n_listeners : 0) * sizeof(*o->stop));
	o->begin = mem_zalloc(s->config->n_listeners * sizeof(*o->begin));
	if (!o->stop || !o->begin) {
		switch_order_fini(o);
		return false;
	}
	o->n_stop = list_changes(c, old, s->config, o->stop);
	o->n_begin = list_changes(c, s->config, old, o->begin);
	o->door = find_door(c, s->config);
	o->door_changes = o->door != find_door(c, old);
	return true;
}

/* ---- taking a config up ------------------------------------------------- */

static bool open_log(const char *path)
{
	if (log_open(path))
		return true;
	log_error("log", "path=%s error=\"%s\"", path, strerror(errno));
	return false;
}

static bool open_access(struct control *c, const struct config *config)
{
	if (access_log_change(c->shared.access, config->access_path,
			      config->access_format))
		return true;
	log_error("access_log", "path=%s error=\"%s\"", config->access_path,
		  strerror(errno));
	return false;
}

/* On failure all is as it was. */
static bool change_logs(struct control *c, const struct config *to)
{
	const struct config *from = c->current ? c->current->config : NULL;

	if (!from)
		return true;
	if (strcmp(from->log_path, to->log_path) != 0 &&
	    !open_log(to->log_path))
		return false;
	if ((strcmp(from->access_path, to->access_path) == 0 &&
	     from->access_format == to->access_format) || open_access(c, to))
		return true;
	if (strcmp(from->log_path, to->log_path) != 0)
		(void)open_log(from->log_path);
	return false;
}

/* What could not be published is put back as it was. */
static bool publish_agents(struct control *c, struct snapshot *s)
{
	if (snapshot_publish_agents(s, c->agents))
		return true;
	log_error("agents", "error=\"no memory\"");
	if (!c->current)
		return false;
	if (!snapshot_publish_agents(c->current, c->agents))
		log_error("agents", "error=\"no memory to go back\"");
	(void)open_access(c, c->current->config);
	(void)open_log(c->current->config->log_path);
	return false;
}

bool reload_adopt(struct control *c, struct config *config)
{
	struct switch_order order = { 0 };
	struct snapshot *s;

	if (!sockets_bind(&c->sockets, config)) {
		config_free(config);
		return false;
	}
	s = make_snapshot(c, config);
	if (!s || !make_order(c, s, &order)) {
		log_error("config", "error=\"no memory\"");
		goto fail;
	}
	if (!change_logs(c, config) || !publish_agents(c, s))
		goto fail;
	switch_order_fini(&c->reload.order);
	c->reload.order = order;
	if (c->current && log_level() >= LOG_INFO)
		(void)changes_log(c->current->config, config);
	rcu_publish(&c->current, s);
	c->snapshots_live++;
	log_set_level(config->log_level);
	__atomic_store_n(&c->shared.held_limit, config->memory_held_bytes,
			 __ATOMIC_RELAXED);
	return true;
fail:
	switch_order_fini(&order);
	if (s)
		drop_snapshot(s);
	sockets_undo(&c->sockets);
	return false;
}

/* ---- a reload ----------------------------------------------------------- */

static void log_faults(char *text)
{
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest))
		log_error("config", "%s", line);
}

/* NULL: the faults were logged. */
static struct config *load(const char *file)
{
	char *text = NULL;
	size_t n = 0;
	FILE *faults = open_memstream(&text, &n);
	struct config *config = NULL;

	if (faults) {
		config = config_load(file, faults);
		if (fclose(faults) == 0)
			log_faults(text);
	}
	free(text);
	return config;
}

/* What cannot change while we run keeps its value, and that is said. */
static void warn_ignored(const struct control *c, const struct config *config)
{
	if (config->workers != c->shared.n_workers)
		log_warn("config", "key=workers value=%u running=%u "
			 "text=\"takes effect at the next start\"",
			 config->workers, c->shared.n_workers);
	if (strcmp(config->admin.text, c->admin_address.text) != 0)
		log_warn("config", "key=admin.address value=%s running=%s "
			 "text=\"takes effect at the next start\"",
			 config->admin.text, c->admin_address.text);
}

static void reload_done(struct control *c, bool ok)
{
	if (ok)
		c->reloads_ok++;
	else
		c->reloads_refused++;
	log_event(ok ? LOG_INFO : LOG_ERROR, "reload",
		  "event=reload result=%s generation=%" PRIu64,
		  ok ? "ok" : "refused", c->current->generation);
	c->reload.busy = false;
	if (c->state == CONTROL_RUNNING)
		notify_ready();
}

/* True: workers are switching. */
static bool reload_begin(struct control *c)
{
	struct config *config;

	c->reload.busy = true;
	notify_reloading();
	config = load(c->file);
	if (!config)
		return false;
	warn_ignored(c, config);
	if (!reload_adopt(c, config))
		return false;
	/* What the workers leave behind is closed once all have switched. */
	sockets_refuse(&c->sockets, c->current->config);
	c->reload.switches_left = c->n_threads;
	for (unsigned w = 0; w < c->n_threads; w++)
		worker_thread_switch(&c->threads[w], &c->reload.order);
	return true;
}

void reload_request(struct control *c)
{
	if (c->state > CONTROL_RUNNING) {
		log_warn("reload", "event=reload result=refused generation=%"
			 PRIu64 " text=\"draining\"", c->current->generation);
		return;
	}
	if (c->state < CONTROL_RUNNING || c->reload.busy ||
	    handover_busy(c)) {
		c->reload.again = true;
		return;
	}
	c->reload.again = false;
	if (reload_begin(c))
		return;
	reload_done(c, false);
	if (c->handover.wanted)
		handover_begin(c);
}

void reload_on_switched(struct letter *l)
{
	struct worker_thread *t =
		container_of(l, struct worker_thread, switched);
	struct control *c = t->control;

	if (--c->reload.switches_left > 0)
		return;
	sockets_keep(&c->sockets, c->current->config);
	reload_done(c, true);
	if (c->handover.wanted)
		handover_begin(c);
	else if (c->reload.again && c->state == CONTROL_RUNNING)
		reload_request(c);
}
