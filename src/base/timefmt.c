/* Times as text; see timefmt.h. */
#include "base/timefmt.h"

#include <string.h>

#define DAY_S	86400u

struct civil {
	unsigned year, month, day;	/* month and day from 1 */
	unsigned weekday;		/* 0 is Sunday */
	unsigned hour, minute, second;
};

/*
 * Days to year, month, day in years that begin in March, so that the leap day
 * is the last of its year; 400 years have 146097 days.
 */
static void civil_from_seconds(uint64_t seconds, struct civil *c)
{
	uint64_t days = seconds / DAY_S;
	unsigned in_day = (unsigned)(seconds % DAY_S);
	uint64_t shifted = days + 719468;	/* from 0000-03-01 */
	uint64_t era = shifted / 146097;
	unsigned doe = (unsigned)(shifted % 146097);
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	unsigned march = (5 * doy + 2) / 153;

	c->day = doy - (153 * march + 2) / 5 + 1;
	c->month = march < 10 ? march + 3 : march - 9;
	c->year = (unsigned)((era * 400 + yoe + (c->month <= 2)) % 10000);
	c->weekday = (unsigned)((days + 4) % 7);
	c->hour = in_day / 3600;
	c->minute = in_day / 60 % 60;
	c->second = in_day % 60;
}

static char *put_digits(char *p, unsigned v, int width)
{
	for (int i = width - 1; i >= 0; i--) {
		p[i] = (char)('0' + v % 10);
		v /= 10;
	}
	return p + width;
}

static void fill_cache(struct timefmt_cache *c, uint64_t seconds)
{
	struct civil t;
	char *p = c->rfc3339;

	civil_from_seconds(seconds, &t);
	p = put_digits(p, t.year, 4);
	*p++ = '-';
	p = put_digits(p, t.month, 2);
	*p++ = '-';
	p = put_digits(p, t.day, 2);
	*p++ = 'T';
	p = put_digits(p, t.hour, 2);
	*p++ = ':';
	p = put_digits(p, t.minute, 2);
	*p++ = ':';
	p = put_digits(p, t.second, 2);
	*p = '.';
	c->second = (int64_t)seconds;
}

static char *put_second(struct timefmt_cache *c, uint64_t wall_us, char *out)
{
	uint64_t seconds = wall_us / 1000000;

	if (UNLIKELY(c->second != (int64_t)seconds || seconds == 0))
		fill_cache(c, seconds);
	memcpy(out, c->rfc3339, sizeof(c->rfc3339));
	return out + sizeof(c->rfc3339);
}

void timefmt_rfc3339_ms(struct timefmt_cache *c, uint64_t wall_us, char *out)
{
	uint64_t ms = wall_us / 1000;
	char *p;

	if (UNLIKELY(c->ms != ms || ms == 0)) {
		p = put_second(c, wall_us, c->rfc3339_ms);
		p = put_digits(p, (unsigned)(ms % 1000), 3);
		*p = 'Z';
		c->ms = ms;
	}
	memcpy(out, c->rfc3339_ms, sizeof(c->rfc3339_ms));
}

void timefmt_rfc3339_us(struct timefmt_cache *c, uint64_t wall_us, char *out)
{
	char *p = put_second(c, wall_us, out);

	p = put_digits(p, (unsigned)(wall_us % 1000000), 6);
	*p = 'Z';
}

static char *put_text(char *p, const char *text, size_t n)
{
	memcpy(p, text, n);
	return p + n;
}

void timefmt_http_date(uint64_t wall_us, char *out)
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct civil t;
	char *p = out;

	civil_from_seconds(wall_us / 1000000, &t);
	p = put_text(p, days + 3 * t.weekday, 3);
	p = put_text(p, ", ", 2);
	p = put_digits(p, t.day, 2);
	*p++ = ' ';
	p = put_text(p, months + 3 * (t.month - 1), 3);
	*p++ = ' ';
	p = put_digits(p, t.year, 4);
	*p++ = ' ';
	p = put_digits(p, t.hour, 2);
	*p++ = ':';
	p = put_digits(p, t.minute, 2);
	*p++ = ':';
	p = put_digits(p, t.second, 2);
	put_text(p, " GMT", 4);
}
