-- Prints what the driver reads. Arguments: paths to take in turn, if any.
local paths = {}
local turn = 0

function init(args)
	for i = 1, #args do
		paths[i] = wrk.format(nil, args[i])
	end
end

if os.getenv("BENCH_PATHS") then
	request = function()
		turn = turn % #paths + 1
		return paths[turn]
	end
end

function done(summary, latency)
	local e = summary.errors

	io.write(string.format(
		'{"requests":%d,"us":%d,"p50":%d,"p99":%d,"p999":%d,' ..
		'"errors":%d,"bytes":%d}\n',
		summary.requests, summary.duration, latency:percentile(50),
		latency:percentile(99), latency:percentile(99.9),
		e.connect + e.read + e.write + e.status + e.timeout,
		summary.bytes))
end
