#include "daemon/control.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/mem.h"
#include "config/load.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "net/sock.h"

/* ---- admin -------------------------------------------------------------- */

static void fill_view(void *arg, struct admin_view *v)
{
	struct control *c = arg;
	const struct snapshot *s = c->current;

	*v = (struct admin_view){
		.running = c->state != CONTROL_STARTING,
		.draining = c->state > CONTROL_RUNNING,
		.n_workers = c->shared.n_workers,
		.generation = s->generation,
		.loaded_wall_us = s->loaded_wall_us,
		.config = s->config,
		.agents = s->agents,
		.upstreams = s->upstreams,
		.metrics = c->shared.metrics,
		.process = {
			.version = VERSION,
			.start_time_s = c->start_time_s,
			.config_generation = s->generation,
			.reloads_ok = c->reloads_ok,
			.reloads_refused = c->reloads_refused,
			.config_snapshots_live = c->snapshots_live,
			.log_lost = log_lost(),
		},
	};
}

/* ---- signals ------------------------------------------------------------ */

static void log_reopened(bool ok, const char *path)
{
	if (ok)
		log_info("reopen", "path=%s", path);
	else
		log_error("reopen", "path=%s error=\"%s\"", path,
			  strerror(errno));
}

static void reopen_logs(struct control *c)
{
	const struct config *config = c->current->config;

	log_reopened(log_open(config->log_path), config->log_path);
	log_reopened(access_log_reopen(c->shared.access), config->access_path);
}

static void on_signal(struct control *c, int signal)
{
	switch (signal) {
	case SIGTERM:
	case SIGINT:
		if (c->state < CONTROL_DRAINING)
			drain_begin(c);
		else
			control_stop(c, "second_signal");
		break;
	case SIGHUP:
		reload_request(c);
		break;
	case SIGUSR1:
		reopen_logs(c);
		break;
	case SIGUSR2:
		handover_begin(c);
		break;
	case SIGCHLD:
		handover_reap(c);
		break;
	default:
		log_warn("signal", "signal=%d text=\"has no effect\"", signal);
		break;
	}
}

static void on_signals(evutil_socket_t fd, short what, void *arg)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		on_signal(arg, (int)info.ssi_signo);
}

/* liburcu's threads block all signals but its own, which is SIGUSR1: it comes
 * to them, and is sent on to the control thread (whose id is the process's). */
static void pass_on(int signal)
{
	int saved_errno = errno;

	syscall(SYS_tgkill, getpid(), getpid(), signal);
	errno = saved_errno;
}

static sigset_t our_signals(void)
{
	static const int list[] = {
		SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD,
	};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(list); i++)
		sigaddset(&set, list[i]);
	return set;
}

void control_block_signals(void)
{
	struct sigaction usr1 = { .sa_handler = pass_on,
				  .sa_flags = SA_RESTART };
	sigset_t set = our_signals();

	sigaction(SIGUSR1, &usr1, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static bool take_signals(struct control *c)
{
	sigset_t set = our_signals();

	c->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (c->signal_fd < 0)
		return false;
	c->signals = event_new(c->base, c->signal_fd, EV_READ | EV_PERSIST,
			       on_signals, c);
	return c->signals && event_add(c->signals, NULL) == 0;
}

/* ---- start -------------------------------------------------------------- */

static void raise_limits(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
			log_warn("limits", "error=\"%s\"", strerror(errno));
	}
	umask(027);
}

void control_on_started(struct letter *l)
{
	struct worker_thread *t =
		container_of(l, struct worker_thread, started);
	struct control *c = t->control;

	if (t->listen_failed) {
		c->exit_code = EXIT_RUN_TIME;
		control_stop(c, "memory");
	}
	if (--c->starts_left > 0 || c->state != CONTROL_STARTING)
		return;
	if (!watchdog_start(c)) {
		c->exit_code = EXIT_RUN_TIME;
		control_stop(c, "memory");
		return;
	}
	c->state = CONTROL_RUNNING;
	sockets_keep(&c->sockets, c->current->config);
	inherit_close_rest(&c->inherit);
	log_info("ready", "generation=%" PRIu64 " listeners=%u admin=%s",
		 c->current->generation, c->current->config->n_listeners,
		 c->admin_address.text);
	/* A former process says so first: until then systemd knows it, not
	 * us. */
	if (c->inherit.ready_fd >= 0)
		handover_say_ready(c);
	else
		notify_ready();
	if (c->reload.again)
		reload_request(c);
}

/* False: logged. */
static bool start_threads(struct control *c)
{
	unsigned n = c->shared.n_workers;

	c->threads = mem_zalloc_aligned(n * sizeof(*c->threads));
	if (!c->threads)
		goto fail;
	/* All loops first: one that fails leaves no thread behind. */
	for (unsigned w = 0; w < n; w++) {
		c->threads[w].control = c;
		c->threads[w].loop = loop_new(w);
		if (!c->threads[w].loop)
			goto fail;
	}
	c->starts_left = n;
	for (; c->n_threads < n; c->n_threads++)
		if (!worker_thread_start(&c->threads[c->n_threads],
					 &c->reload.order))
			goto fail;
	return true;
fail:
	log_error("start", "error=\"no worker: %s\"", strerror(errno));
	return false;
}

/* What does not depend on the config's listeners, agents and routes. */
static bool make_parts(struct control *c, const struct config *config)
{
	unsigned n = config->workers;

	c->shared.n_workers = n;
	peers_init(&c->shared);
	c->shared.metrics = metrics_new(n);
	c->agents = agent_table_new();
	c->admin_address.text = mem_strdup(slice_str(config->admin.text));
	c->admin_address.addr = config->admin.addr;
	if (!c->shared.metrics || !c->agents || !drain_init(c) ||
	    !c->admin_address.text || !inherit_init(&c->inherit) || !take_signals(c) ||
	    !inbox_init(&c->inbox, c->base)) {
		log_error("start", "error=\"%s\"", strerror(errno));
		return false;
	}
	c->sockets.inherit = &c->inherit;
	c->shared.access = access_log_open(config->access_path,
					   config->access_format, n);
	if (!c->shared.access)
		log_error("access_log", "path=%s error=\"%s\"",
			  config->access_path, strerror(errno));
	return c->shared.access != NULL;
}

static bool start_admin(struct control *c)
{
	int fd = sockets_bind_admin(&c->sockets, &c->admin_address,
				    &c->admin_kept);

	if (fd < 0)
		return false;
	c->admin = admin_new(c->base, fd, fill_view, c);
	if (c->admin)
		c->admin_fd = fd;
	if (!c->admin)
		log_error("start", "error=\"no admin port: no memory\"");
	return c->admin != NULL;
}

/* Consumes config. False: logged. */
static bool start(struct control *c, struct config *config)
{
	if (!make_parts(c, config)) {
		config_free(config);
		return false;
	}
	return reload_adopt(c, config) && start_admin(c) && start_threads(c);
}

/* ---- the end ------------------------------------------------------------ */

/* No worker ever had it: there is nobody to release it. */
static void release_unused(struct control *c)
{
	struct snapshot *s = c->current;

	for (unsigned w = c->n_threads; s && w < c->shared.n_workers; w++)
		if (--s->workers_left == 0)
			s->on_released(s);
}

static void control_fini(struct control *c)
{
	for (unsigned w = 0; w < c->n_threads; w++)
		worker_thread_join(&c->threads[w]);
	/* What workers have posted to each other at last: one thing may lead to
	 * another, thrice. */
	for (unsigned round = 0; round < 4; round++)
		for (unsigned w = 0; w < c->n_threads; w++)
			loop_turn(c->threads[w].loop, 0);
	for (unsigned w = 0; c->threads && w < c->shared.n_workers; w++)
		loop_free(c->threads[w].loop);
	admin_free(c->admin);
	if (c->admin && !c->admin_kept && !handover_shared(c))
		sockets_unlink(&c->admin_address.addr);
	sockets_fini(&c->sockets);
	inherit_fini(&c->inherit);
	release_unused(c);
	c->current = NULL;
	/* Snapshots: released, a grace period, freed; then their agents. */
	if (c->inbox.event) {
		inbox_run(&c->inbox);
		rcu_drain();
		inbox_run(&c->inbox);
	}
	if (c->agents)
		agent_table_free(c->agents);
	rcu_drain();
	access_log_close(c->shared.access);
	metrics_free(c->shared.metrics);
	switch_order_fini(&c->reload.order);
	mem_free(c->threads);
	mem_free((char *)c->admin_address.text);
}

static void loop_fini(struct control *c)
{
	inbox_fini(&c->inbox);
	if (c->signals)
		event_free(c->signals);
	if (c->signal_fd >= 0)
		close(c->signal_fd);
	watchdog_fini(c);
	drain_fini(c);
	handover_fini(c);
	event_base_free(c->base);
}

static void on_libevent_log(int severity, const char *text)
{
	enum log_level level = severity >= EVENT_LOG_ERR ? LOG_ERROR :
			       severity == EVENT_LOG_WARN ? LOG_WARN :
			       LOG_DEBUG;

	log_event(level, "libevent", "text=\"%s\"", text);
}

int control_run(struct config *config, const char *file, char **argv)
{
	struct control c = {
		.file = file,
		.signal_fd = -1,
		.admin_fd = -1,
		.inherit.ready_fd = -1,
		.handover = { .argv = argv, .fd = -1 },
		.inbox.fd = -1,
		.start_time_s = sock_wall_us() / 1000000,
		.start_us = sock_clock_us(),
		.exit_code = EXIT_OK,
	};

	log_set_level(config->log_level);
	log_init();
	if (!log_open(config->log_path)) {
		log_error("log", "path=%s error=\"%s\"", config->log_path,
			  strerror(errno));
		config_free(config);
		return EXIT_RUN_TIME;
	}
	log_info("start", "version=%s pid=%d workers=%u config=\"%s\"", VERSION,
		 (int)getpid(), config->workers, file);
	raise_limits();
	rcu_worker_online();
	sockets_init(&c.sockets, config->workers);
	event_set_log_callback(on_libevent_log);
	c.base = event_base_new();
	if (!c.base) {
		config_free(config);
		return EXIT_RUN_TIME;
	}
	if (start(&c, config)) {
		event_base_dispatch(c.base);
	} else {
		c.exit_code = EXIT_RUN_TIME;
		control_stop(&c, "start_failed");
	}
	control_fini(&c);
	loop_fini(&c);
	rcu_worker_offline();
	return c.exit_code;
}
