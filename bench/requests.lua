-- Every request differs in its path and in one header, so that no cache of whole heads flatters anybody.
local n = 0
request = function()
  n = n + 1
  wrk.headers["x-visitor"] = "visitor-" .. (n * 7919 % 100003)
  return wrk.format("GET", "/item/" .. (n % 5003) .. "?q=" .. n)
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d\n", summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
