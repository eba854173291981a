let net = require('@farsock/client').host('lab-a').net;
let client = new net.Socket();
client.connect(3000,'localhost',function () {
    console.log('connect...');  //运行后输出该句，证明回调已经执行

    //发送数据
    client.write('msg of client');

});
//新建的client对象（就是socket）用来支持数据交互

//接收数据
client.on('data',function (data) {
    console.log('the data come from server is ' + data.toString());
});
