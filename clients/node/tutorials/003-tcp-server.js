const net = require('@farsock/client').host('lab-a').net;
let server = net.createServer(function (socket) {
    console.log('Connect...');  //有访问才会输出
    server.maxConnections = 3;  //可以用来设置服务器最大连接数
    server.getConnections(function (err,count) {    //count为当前连接数
        console.log(count);
    });
});
server.listen(3000,function () {
    console.log('Listen...');   //服务器启动就会输出
});
