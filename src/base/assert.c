/* What happens when the daemon has lost count of itself. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"

void assert_failed(const char *cond, const char *file, int line)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "assertion failed: %s:%d: %s\n",
			 file, line, cond);

	if (n > (int)sizeof(text) - 1)
		n = (int)sizeof(text) - 1;
	/* No stdio and no lock: any thread may have died in either. */
	if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
		_exit(134);
	abort();
}
