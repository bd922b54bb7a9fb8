-- Rate-limited traffic for sysbench: each thread starts its transactions at moments of its own making, and writes when
-- each should have begun, when it ended, and whether it failed. sysbench's own report gives a single percentile.
ffi = require("ffi")
ffi.cdef[[
typedef struct { long tv_sec; long tv_nsec; } orders_time;
int clock_gettime(int clock, orders_time *now);
int usleep(unsigned int microseconds);
]]

sysbench.cmdline.options = {
   per_second = {"transactions of each thread in a second", 100},
   log_folder = {"where to write what each transaction took", "/tmp"}
}

local moment = ffi.new("orders_time")

local function now()
   ffi.C.clock_gettime(0, moment)
   return tonumber(moment.tv_sec) + tonumber(moment.tv_nsec) / 1e9
end

function thread_init()
   connection = sysbench.sql.driver():connect()
   log = io.open(sysbench.opt.log_folder .. "/log." .. sysbench.tid, "w")
   log:setvbuf("line")
   due = now()
end

local function recent_key()
   local n = sysbench.rand.uniform(1, 10000)
   return connection:query_row("SELECT o_orderkey FROM recent WHERE n = " .. n)
end

local function read()
   connection:query("SELECT * FROM orders WHERE o_orderkey = " .. recent_key())
end

local function update()
   local key = recent_key()
   connection:query("BEGIN")
   connection:query("SELECT o_totalprice FROM orders WHERE o_orderkey = " .. key .. " FOR UPDATE")
   connection:query("UPDATE orders SET o_totalprice = o_totalprice + 1 WHERE o_orderkey = " .. key)
   connection:query("COMMIT")
end

local function insert()
   local customer = sysbench.rand.uniform(1, 10000)
   connection:query("INSERT INTO new_orders VALUES ()")
   connection:query("INSERT INTO orders VALUES (1000000000 + last_insert_id(), " .. customer ..
      ", 'O', 100, '1998-08-03', '1-URGENT', 'Clerk#000000001', 0, 'a new order')")
end

function event()
   due = due - math.log(1 - sysbench.rand.uniform_double()) / sysbench.opt.per_second
   local early = due - now()
   if early > 0 then ffi.C.usleep(early * 1e6) end
   local chance = sysbench.rand.uniform_double()
   local action = chance < 0.7 and read or chance < 0.9 and update or insert
   local done = pcall(action)
   if not done then pcall(connection.query, connection, "ROLLBACK") end
   log:write(string.format("%.6f %.6f %d\n", due, now(), done and 0 or 1))
end
