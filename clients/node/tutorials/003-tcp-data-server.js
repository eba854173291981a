const net = require('@farsock/client').host('lab-a').net;
let server = net.createServer(function (socket) {
    //获取地址信息
    let address = server.address();
    let message = 'server address is ' + JSON.stringify(address);
    socket.write(message,function () {
        let writesize = socket.bytesWritten;
        console.log(message + ' has end');
        console.log('the size of message is ' + writesize);
    });
    socket.on('data',function (data) {
        console.log('data is ' + data.toString());
        let readsize = socket.bytesRead;
        console.log('the size of data is ' + readsize);
    });
}).listen(3000);
