/*
 * Is a server well? What requests find out (failures in a row take it out for
 * a while) and what checks find out. Shared by all workers: atomics that are
 * written on change only.
 */
#include "upstream/internal.h"

static bool is_out(const struct server_info *info, uint64_t now_us)
{
	return __atomic_load_n(&info->check_down, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&info->ejected_until_us, __ATOMIC_RELAXED) >
	       now_us;
}

bool server_is_out(const struct server_info *info, uint64_t now_us)
{
	return is_out(info, now_us);
}

void server_down(struct upstream *u, struct server_info *info,
		 const char *reason, const char *error)
{
	if (!__atomic_exchange_n(&info->down, true, __ATOMIC_RELAXED))
		log_warn("upstream_down",
			 "upstream=%s server=%s reason=%s error=\"%s\"",
			 u->name, info->name, reason, error);
}

static void server_up(struct upstream *u, struct server_info *info)
{
	if (__atomic_exchange_n(&info->down, false, __ATOMIC_RELAXED))
		log_info("upstream_up", "upstream=%s server=%s", u->name,
			 info->name);
}

/* May one more be out? */
static bool below_cap(const struct upstream *u, uint64_t now_us)
{
	unsigned out = 1;

	for (unsigned i = 0; i < u->n_servers; i++)
		out += is_out(&u->servers[i], now_us);
	return (uint64_t)out * 100 <= (uint64_t)u->max_percent * u->n_servers;
}

/* Two workers at once could go over the cap: the later one leaves it to the
 * next failure. */
static void eject(struct upstream *u, struct server_info *info,
		  uint64_t now_us, const char *error)
{
	if (__atomic_exchange_n(&u->ejecting, true, __ATOMIC_ACQUIRE))
		return;
	if (!is_out(info, now_us) && below_cap(u, now_us)) {
		__atomic_store_n(&info->ejected_until_us,
				 now_us + u->ejection_us, __ATOMIC_RELAXED);
		/* Back on trial: the next failure is one too many. */
		__atomic_store_n(&info->failures, u->max_failures - 1,
				 __ATOMIC_RELAXED);
		server_down(u, info, "ejected", error);
	}
	__atomic_store_n(&u->ejecting, false, __ATOMIC_RELEASE);
}

void server_failure(struct upstream *u, struct server_info *info,
		    uint64_t now_us, const char *error)
{
	unsigned n = __atomic_add_fetch(&info->failures, 1, __ATOMIC_RELAXED);

	if (u->max_failures && n >= u->max_failures)
		eject(u, info, now_us, error);
}

/* What was under way when it was taken out does not bring it back. */
static void server_success(struct upstream *u, struct server_info *info,
			   uint64_t now_us)
{
	if (is_out(info, now_us))
		return;
	__atomic_store_n(&info->failures, 0, __ATOMIC_RELAXED);
	server_up(u, info);
}

/* ---- what requests find out ----------------------------------------------- */

void upstream_blame(struct upstream_lease *lease, enum upstream_error error)
{
	struct upstream_conn *conn = lease->conn;

	if (conn && conn->upstream)
		server_failure(conn->upstream, conn->server->info,
			       lease->loop->now_us,
			       upstream_error_names[error]);
}

void upstream_praise(struct upstream_lease *lease)
{
	struct upstream_conn *conn = lease->conn;
	struct server_info *info;

	if (!conn || !conn->upstream)
		return;
	info = conn->server->info;
	if (UNLIKELY(__atomic_load_n(&info->failures, __ATOMIC_RELAXED) ||
		     __atomic_load_n(&info->down, __ATOMIC_RELAXED)))
		server_success(conn->upstream, info, lease->loop->now_us);
}

/* ---- what checks find out ------------------------------------------------- */

void server_check_good(struct upstream *u, struct server_info *info,
		       uint64_t now_us)
{
	info->bad_checks = 0;
	if (++info->good_checks < u->check.rise &&
	    __atomic_load_n(&info->check_down, __ATOMIC_RELAXED))
		return;
	if (__atomic_exchange_n(&info->check_down, false, __ATOMIC_RELAXED))
		__atomic_store_n(&info->ejected_until_us, 0, __ATOMIC_RELAXED);
	if (__atomic_load_n(&info->down, __ATOMIC_RELAXED))
		server_success(u, info, now_us);
}

void server_check_bad(struct upstream *u, struct server_info *info,
		      const char *error)
{
	info->good_checks = 0;
	if (++info->bad_checks < u->check.fall)
		return;
	__atomic_store_n(&info->check_down, true, __ATOMIC_RELAXED);
	server_down(u, info, "check", error);
}
