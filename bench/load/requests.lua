-- Every request differs in its path and in one header, so that no cache of whole heads flatters anybody.
-- Arguments: path prefix, "keep" or "close" (a connection for each request).
local n = 0
local prefix = "/item/"
function init(args)
  prefix = args[1]
  if args[2] == "close" then
    wrk.headers["Connection"] = "close"
  end
end
request = function()
  n = n + 1
  wrk.headers["x-visitor"] = "visitor-" .. (n * 7919 % 100003)
  return wrk.format("GET", prefix .. (n % 5003) .. "?q=" .. n)
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99), summary.bytes))
end
