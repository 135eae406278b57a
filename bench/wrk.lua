-- Sends the requests of one file in turn and reports one line of JSON.
-- The file holds complete HTTP requests, each after its length in ten digits.

local requests = {}
local index = 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  while true do
    local digits = file:read(10)
    if not digits then break end
    requests[#requests + 1] = file:read(tonumber(digits))
  end
  file:close()
end

function request()
  index = index % #requests + 1
  return requests[index]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency.max,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
